"""The trained model as a module of the script's own: which it is, how many parameters it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS, dtype
from vramlint.surfaces.counting import Count, count_module, holds_parameters
from vramlint.surfaces.draft import Draft, Drawn, derived, draw, unknown
from vramlint.surfaces.freezing import freezes
from vramlint.surfaces.layers import UnknownSizeError
from vramlint.surfaces.lineage import is_module, last, leads_to_model
from vramlint.surfaces.loading import cast_of
from vramlint.surfaces.optimizers import is_optimizer
from vramlint.values import Alternatives, Call, Items, Scalar, Table, Value

_TAKES_MODEL = frozenset({"prepare", "initialize", "setup", "setup_module", "compile"})
_WRAPPERS = frozenset({"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "fully_shard"})
_CASTS = frozenset({".bfloat16", ".half"})
_ADAPTS = frozenset({"get_peft_model", "add_adapter", "inject_adapter_in_model"})
_MAY_CAST = frozenset({".to", ".type"})
_LOADS = frozenset({"load_state_dict", "load_variable", "load_file", "safe_open"})
"""Calls of torch, tensorflow and safetensors that give weights of a file."""
_NARROW = ("bfloat16", "float16")
OWN_MODEL = "the files define the model themselves"
"""Why no name is known."""


def own_module(calls: Sequence[Call], given: Value | None = None) -> Call | None:
    """The module of the files that is trained, None where there is none, or several and nothing says which.

    Args:
        calls: all calls of the program.
        given: what a trainer was given as its model.
    """
    led = _distinct(_modules_in(given)) if given is not None else ()
    if not led:
        takers = [call for call in calls if is_optimizer(call) or last(call.callee) in {*_TAKES_MODEL, *_WRAPPERS}]
        led = _distinct(found for call in takers for found in _modules_in(call))
    if not led:
        led = _distinct(call for call in calls if is_module(call) or _is_layer(call))
    outermost = _outermost(led)
    return outermost[0] if len(outermost) == 1 else None


def own_model(draft: Draft, calls: Sequence[Call], module: Call) -> None:
    """Put what is known of a module of the files into the draft."""
    counted = parameters(module)
    draft.put(counted)
    if counted is not None and not counted.candidates:
        draft.put(known_parameters(module))
    draft.put(unknown("model", OWN_MODEL, "model", module.place))
    draft.take(_dtype(calls, module))
    if not any(freezes(call) for call in calls):
        draft.put(derived("tuning", "full", "no parameter of the module is frozen", module.place))


def trains_own_modules(calls: Sequence[Call]) -> Fact | None:
    """Full training, where a program makes several modules itself and neither adapts nor freezes any."""
    made = next((call for call in calls if is_module(call) and not leads_to_model(call)), None)
    if made is None or any(freezes(call) or last(call.callee) in _ADAPTS for call in calls):
        return None
    if any(leads_to_model(call) for call in calls):
        return None
    return derived("tuning", "full", "no parameter of the modules is frozen", made.place)


def parameters(module: Call) -> Fact | None:
    """How many parameters a module has; unknown with the reason where it cannot be counted."""
    try:
        count = count_module(module)
    except UnknownSizeError as error:
        return unknown("parameters", str(error), "parameters", module.place)
    if not count.total:
        return None
    candidate = Candidate(count.total, module.place)
    return Fact("parameters", (candidate,), Origin.DERIVED, "parameters", "code", reason=_reason(count))


def known_parameters(module: Call) -> Fact | None:
    """How many parameters the parts have that can be counted."""
    count = count_module(module, partly=True)
    if not count.total:
        return None
    candidate = Candidate(count.total, module.place)
    return Fact("parameters_at_least", (candidate,), Origin.DERIVED, "parameters", "code", reason=_reason(count))


def _reason(count: Count) -> str:
    return f"counted from the modules that the files make: {count.biggest()}"


def _dtype(calls: Sequence[Call], module: Call) -> Iterable[Drawn]:
    """A cast of the module, or torch's default dtype where the program sets another."""
    for call in calls:
        if call.receiver is module and (cast := cast_of(call)) is not None:
            yield cast
            return
    for call in calls:
        if call.callee == "torch.set_default_dtype" and call.args:
            yield draw("load_dtype", call.args[0], CONVERTERS["dtype"], "set_default_dtype", call.place)
            return


def loads_weights(calls: Sequence[Call]) -> bool:
    """Whether weights from a file surely get into a model before the first backward pass."""
    for call in calls:
        if last(call.callee) == "backward":
            return False
        if last(call.callee) in _LOADS and not call.conditions:
            return True
    return False


def casts(calls: Sequence[Call]) -> bool:
    """Whether some call makes 16-bit tensors of others, as models do that compute in another dtype by themselves."""
    return any(call.callee in _CASTS or (call.callee in _MAY_CAST and _takes_dtype(call)) for call in calls)


def _takes_dtype(call: Call) -> bool:
    named = call.argument("dtype")
    if named is not None and dtype(named) != "float32":
        return True
    return any(not isinstance(value, Scalar) and dtype(value) in _NARROW for value in call.args)


def _is_layer(call: Call) -> bool:
    return call.callee in {"torch.nn.Sequential", "torch.nn.Transformer", "torch.nn.TransformerEncoder"}


def _modules_in(value: Value | None) -> Iterable[Call]:
    """Modules that a value leads to: through wrappers, `parameters()`, and groups of parameters."""
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        match item:
            case Alternatives(options=several):
                waiting += [option.value for option in several]
            case Call() if holds_parameters(item) and last(item.callee) not in _WRAPPERS:
                yield item
            case Call():
                waiting += [item.receiver, item.owner, *item.args, *(keyword.value for keyword in item.keywords)]
            case Items(values=values):
                waiting += values
            case Table():
                waiting += [entry.value for entry in item]


def _distinct(found: Iterable[Call]) -> tuple[Call, ...]:
    return tuple({id(call): call for call in found}.values())


def _outermost(found: Sequence[Call]) -> list[Call]:
    """Those that no other one holds, and that have parameters at all."""
    inside: Mapping[int, set[int]] = {id(call): _held(call) for call in found}
    return [
        call
        for call in found
        if not any(id(call) in held for owner, held in inside.items() if owner != id(call)) and _may_train(call)
    ]


def _may_train(call: Call) -> bool:
    try:
        return count_module(call).total > 0
    except UnknownSizeError:
        return True


def _held(call: Call) -> set[int]:
    """Identities of all modules inside of one."""
    found: set[int] = set()
    waiting: list[Value] = [call]
    while waiting:
        value = waiting.pop()
        match value:
            case Call() if id(value) not in found:
                found.add(id(value))
                waiting += [*value.args, *(item.value for item in (*value.keywords, *value.bindings))]
            case Items(values=values):
                waiting += values
            case Table():
                waiting += [entry.value for entry in value]
    return found - {id(call)}

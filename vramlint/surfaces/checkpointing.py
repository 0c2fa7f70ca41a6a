"""Activation checkpointing and other switches that a program throws on the model itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

from vramlint.facts import Candidate, Fact, Origin, seconded
from vramlint.surfaces.adapters import preparation_facts
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Draft, Drawn, conditional, distinct, draw, stated
from vramlint.surfaces.lineage import last
from vramlint.surfaces.trainers import is_training_arguments, trains
from vramlint.text import Place
from vramlint.values import Call, Name, Scalar, Table

_ENABLERS = (".gradient_checkpointing_enable", ".enable_gradient_checkpointing")
_WRAPPERS = ("apply_activation_checkpointing", "checkpoint_wrapper", "checkpoint", "checkpoint_sequential")
_TORCH = ("torch.utils.checkpoint.", "torch.distributed.algorithms.", "deepspeed.checkpointing.", "fairscale.")
"""Functions that recompute what they are given, and where they are."""
_FACT = "activation_checkpointing"
_SWITCH = "gradient_checkpointing"
_LIGER_OPTIONS = (
    ("rope", "liger_rope"),
    ("rms_norm", "liger_rms_norm"),
    ("swiglu", "liger_swiglu"),
    ("geglu", "liger_geglu"),
    ("cross_entropy", "liger_cross_entropy"),
    ("fused_linear_cross_entropy", "liger_fused_head"),
)
"""Options of `apply_liger_kernel_to_…` and their facts."""


def checkpointing_facts(draft: Draft, calls: Sequence[Call], chain: Sequence[Call]) -> None:
    """Put activation checkpointing from every source into the draft: whatever turns it on wins.

    Args:
        draft: holds what the trainer's arguments say, if they do.
        calls: all calls of the program.
        chain: the calls that the model goes through, which may repeat some of them.
    """
    sources: list[Fact] = []
    for drawn in preparation_facts(calls, chain):
        if isinstance(drawn, Fact) and drawn.name == _FACT:
            sources.append(drawn)
        else:
            draft.put(drawn)
    for call in {item.place: item for item in (*chain, *calls)}.values():
        if call.callee in _ENABLERS and not _repeats(call):
            sources.append(conditional(stated(_FACT, True, call.place, call.callee[1:]), call.conditions))
            draft.put(_reentrant(call))
        elif last(call.callee) in _WRAPPERS and call.callee.startswith(_TORCH):
            sources.append(conditional(stated(_FACT, True, call.place, last(call.callee)), _undecided(call)))
            draft.put(_implementation(call))
        elif last(call.callee) == "get_peft_model" and (value := call.argument("use_gradient_checkpointing")):
            key = "use_gradient_checkpointing"
            drawn = draw(_FACT, value, CONVERTERS["switch"], key, call.place)
            sources += [drawn] if isinstance(drawn, Fact) else []
    sources += _switches(chain, calls)
    trainer = draft.facts.pop(_FACT, None)
    draft.put(_strongest([*([trainer] if trainer else []), *sources]))


def _switches(chain: Sequence[Call], calls: Sequence[Call]) -> Iterable[Fact]:
    """`model.transformer.gradient_checkpointing = True`, the switch that modules of transformers look at."""
    for call in {item.place: item for item in (*chain, *calls)}.values():
        for item in call.bindings:
            path = item.name.rpartition(".")
            if path[2] == _SWITCH and not is_training_arguments(call):
                drawn = draw(_FACT, item.value, CONVERTERS["switch"], item.name, item.name_place)
                if isinstance(drawn, Fact):
                    yield drawn


def _undecided(call: Call) -> tuple[str, ...]:
    """The tests that a call stands under, without the one whether the model is training."""
    return tuple([condition for condition in call.conditions if condition not in {"self.training", "model.training"}])


def _implementation(call: Call) -> Drawn:
    """Whether recomputation is reentrant: `use_reentrant`, or the `CheckpointImpl` of a wrapper."""
    given = call.argument("use_reentrant")
    if given is not None:
        return draw("checkpointing_reentrant", given, CONVERTERS["flag"], "use_reentrant", call.place)
    wrapper = call.argument("checkpoint_wrapper_fn", 1)
    inner = wrapper if isinstance(wrapper, Call) else call
    kind = inner.argument("checkpoint_impl")
    if not isinstance(kind, Name):
        return None
    return stated("checkpointing_reentrant", last(kind.qualified) == "REENTRANT", call.place, "checkpoint_impl")


def _repeats(call: Call) -> bool:
    """Whether a call only does what the trainer's flag, on which it depends, does anyway."""
    return any(
        condition.endswith((".gradient_checkpointing", ".activation_checkpointing")) for condition in call.conditions
    )


def _strongest(sources: Sequence[Fact]) -> Fact | None:
    """A source that surely turns it on; else an unknown one; else all that the sources say together."""
    if not sources:
        return None
    for index, fact in enumerate(sources):
        if fact.known and fact.value is True:
            return reduce(seconded, sources[index + 1 :], fact)
    for fact in sources:
        if fact.origin is Origin.UNKNOWN:
            return fact
    first = next((fact for fact in sources if len(fact.candidates) > 1), sources[0])
    if len(sources) == 1:
        return first
    off: list[Candidate] = [item for fact in sources for item in fact.candidates if item.value is False]
    on = [item for fact in sources for item in fact.candidates if item.value is True]
    unsaid = [] if off else [item for fact in sources for item in fact.candidates if item.value is None]
    return Fact(_FACT, distinct((*on, *off, *unsaid)), first.origin, first.key, first.via)


def _reentrant(call: Call) -> Drawn:
    given = call.argument("gradient_checkpointing_kwargs", 0)
    entry = given.entry("use_reentrant") if isinstance(given, Table) else None
    if entry is None:
        return None
    return draw("checkpointing_reentrant", entry.value, CONVERTERS["flag"], "use_reentrant", entry.key_place)


def _liger(call: Call, name: str) -> Iterable[Drawn]:
    """Kernels that a call patches in, by its options."""
    yield conditional(stated("liger", True, call.place, name), call.conditions)
    fused = call.argument("fused_linear_cross_entropy")
    on = not (isinstance(fused, Scalar) and fused.value is False)
    yield conditional(stated("fused_loss", on, call.place, name), call.conditions)
    for option, fact in _LIGER_OPTIONS:
        given = call.argument(option)
        if given is not None:
            yield draw(fact, given, CONVERTERS["flag"], option, call.place)


def switch_facts(calls: Sequence[Call]) -> Iterable[Drawn]:
    """Liger kernels that are patched in, `torch.compile` around the model, and adapters merged after training."""
    trained: set[str] = set()
    elsewhere: set[Place] = set()
    """What is loaded after training, and models that go to the host."""
    for call in calls:
        name = last(call.callee)
        if name.startswith("apply_liger_kernel"):
            yield from _liger(call, name)
        elif call.callee == "torch.compile" and call.args:
            yield conditional(stated("torch_compile", True, call.place, "torch.compile"), call.conditions)
        elif trains(call):
            trained.add(call.place.path)
        elif call.place.path in trained and name == "from_pretrained":
            elsewhere.add(call.place)
        elif call.place.path in trained and _goes_to_host(call):
            elsewhere |= {call.place, *_behind(call)}
        elif call.callee == ".merge_and_unload" and call.place.path in trained and not elsewhere & {*_behind(call)}:
            yield conditional(stated("merges_adapter", True, call.place, call.callee[1:]), call.conditions)


def _goes_to_host(call: Call) -> bool:
    """`model.cpu()`, `model.to("cpu")`."""
    device = call.argument("device", 0)
    return call.callee == ".cpu" or (call.callee == ".to" and isinstance(device, Scalar) and device.value == "cpu")


def _behind(call: Call) -> Iterator[Place]:
    """Where that is made which a method is called on, and what that is made of."""
    made = call.receiver
    while isinstance(made, Call):
        yield made.place
        made = made.receiver or next((value for value in made.args if isinstance(value, Call)), None)

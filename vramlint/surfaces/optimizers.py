"""Optimizers made by hand: torch.optim, bitsandbytes, transformers, DeepSpeed and others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from vramlint.catalog.optimizers import find_optimizer
from vramlint.facts import Candidate, Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.draft import is_absent, options, stated, united, unknown
from vramlint.surfaces.lineage import last, package
from vramlint.values import Alternatives, Call, Items, Scalar, Unknown, Value

_PACKAGES = (
    "torch",
    "bitsandbytes",
    "transformers",
    "deepspeed",
    "torchao",
    "apex",
    "lion_pytorch",
    "galore_torch",
    "torch_optimizer",
    "schedulefree",
    "adam_mini",
    "apollo_torch",
    "came_pytorch",
    "grokadamw",
    "lomo_optim",
    "optimi",
    "prodigyopt",
)

_SHORT: Mapping[str, str] = MappingProxyType({"bitsandbytes": "bnb"})
"""Packages that the catalog calls otherwise."""

_NAMED = lazy(r"(?:Adam|AdamW|AdamW?8bit|Adafactor|SGD|Lion|Lamb|LAMB|Muon|Shampoo|Sophia|SophiaG)$")
"""How optimizers of any other package are called."""

MEMORY_ARGUMENTS = (
    "momentum",
    "nesterov",
    "amsgrad",
    "centered",
    "foreach",
    "beta1",
    "decoupled_weight_decay",
    "ns_steps",
    "block_size",
    "minimal_size",
    "min_8bit_size",
    "is_paged",
    "kahan_sum",
    "triton",
)
"""Constructor arguments that decide what a step holds."""


def is_optimizer(call: Call) -> bool:
    """Whether a call makes an optimizer."""
    name = last(call.callee)
    if not name[:1].isupper():
        return False
    if package(call.callee) not in _PACKAGES:
        return "." in call.callee.lstrip(".") and _NAMED.search(name) is not None
    if ".optim" in call.callee or "Optimizer" in name:
        return "lr_scheduler" not in call.callee and not name.endswith(("LR", "Scheduler"))
    return package(call.callee) != "torch" and find_optimizer(name) is not None


def optimizer_fact(value: Value) -> Fact | None:
    """The fact `optimizer` for an optimizer object, or the pair of a Trainer's `optimizers=`; None if it is None."""
    found: list[Fact | None] = []
    for option in options(value):
        match option.value:
            case Items(values=(first, *_)):
                found.append(optimizer_fact(first))
            case absent if is_absent(absent):
                found.append(None)
            case Call() as call if is_optimizer(call):
                found.append(_canonical(call))
            case Unknown() as open_value:
                return unknown("optimizer", open_value.reason, "optimizers", open_value.place)
            case other:
                return unknown("optimizer", "made by code that cannot be followed", "optimizers", other.place)
    return united(found) if any(found) else None


def made_by_hand(calls: Iterable[Call]) -> list[Fact | None]:
    """The optimizer of a hand-written loop: the one that the program makes; unknown if it makes different ones."""
    made = [call for call in calls if is_optimizer(call)]
    return [united([_canonical(call) for call in made]), *settings_of(made)] if made else []


def calls_of(value: Value) -> list[Call]:
    """The calls that may make an optimizer object, or that of the pair of a Trainer's `optimizers=`."""
    found: list[Call] = []
    for option in options(value):
        match option.value:
            case Items(values=(first, *_)):
                found += calls_of(first)
            case Call() as call if is_optimizer(call):
                found.append(call)
    return found


def settings_of(calls: Iterable[Call]) -> list[Fact | None]:
    """What optimizers made by hand are given besides parameters: `weight_decay`, and everything that decides memory."""
    found = list(calls)
    drawn = [_written(call) for call in found]
    decay = [_decay(call) for call in found]
    return [united(facts) if any(facts) else None for facts in (drawn, decay)]


def _written(call: Call) -> Fact | None:
    pairs = []
    for name in MEMORY_ARGUMENTS:
        match call.argument(name):
            case Scalar(value=bool() | int() | float() | str() as value):
                pairs.append(f"{name}={value}")
            case Unknown() | Alternatives():
                return unknown("optimizer_arguments", f"{name} is decided at run time", name, call.place)
    return stated("optimizer_arguments", ",".join(pairs), call.place, last(call.callee)) if pairs else None


def _decay(call: Call) -> Fact | None:
    match call.argument("weight_decay"):
        case Scalar(value=int() | float() as value) if not isinstance(value, bool):
            return stated("weight_decay", value, call.place, "weight_decay")
    return None


def _canonical(call: Call) -> Fact:
    name = _catalog_name(call)
    match call.argument("fused"):
        case Scalar(value=True) if name == "adamw_torch":
            name = "adamw_torch_fused"
        case (Unknown() | Alternatives()) as given if name == "adamw_torch":
            held = given.options[0].condition if isinstance(given, Alternatives) else ""
            both = (Candidate("adamw_torch_fused", call.place, held), Candidate(name, call.place))
            return Fact("optimizer", both, Origin.WRITTEN, "fused", "code")
    match call.argument("optim_bits"):
        case Scalar(value=8):
            narrow = find_optimizer(f"{name.removesuffix('_32bit')}_8bit")
            name = narrow.name if narrow is not None else name
    return stated("optimizer", name, call.place, last(call.callee))


def _catalog_name(call: Call) -> str:
    """The catalog's name of the class, or the class itself when the catalog lacks it."""
    if call.kind:  # a class of the files over torch's Optimizer
        return call.kind
    source, name = package(call.callee), last(call.callee)
    for spelling in (f"{_SHORT.get(source, source)}.optim.{name}", f"{source}.{name}", call.callee, name):
        row = find_optimizer(spelling)
        if row is not None:
            return row.name
    return call.callee

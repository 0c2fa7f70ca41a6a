"""PyTorch Lightning and Fabric: what a `Trainer` or a `Fabric` says of precision, devices and strategy.

lightning 2.5: pytorch/trainer/trainer.py, pytorch/plugins/precision, fabric/fabric.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS, Converted, Outcome
from vramlint.surfaces.draft import Arguments, Draft, Drawn, derived, distinct, draw, is_absent, stated, unknown
from vramlint.surfaces.lightning_strategies import strategy_facts
from vramlint.surfaces.lineage import last, package
from vramlint.values import Call, Items, Keyword, Scalar, Unknown, Value

_PACKAGES = ("lightning", "pytorch_lightning", "lightning_fabric", "lightning_pytorch")
_NO_TRAINING = frozenset({".test", ".validate", ".predict"})


class Precision(Struct, frozen=True):
    """What one word of `precision` means."""

    autocast: str = ""
    weights: str = ""
    """The dtype that the whole module is cast to; empty: as it is loaded."""
    fp8: bool = False

    @property
    def dtype(self) -> str:
        """The 16-bit dtype in it."""
        return self.autocast or self.weights


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        **dict.fromkeys(("32", "32-true"), Precision()),
        **dict.fromkeys(("16", "16-mixed"), Precision("float16")),
        **dict.fromkeys(("bf16", "bf16-mixed"), Precision("bfloat16")),
        "16-true": Precision(weights="float16"),
        "bf16-true": Precision(weights="bfloat16"),
        **dict.fromkeys(("64", "64-true"), Precision(weights="float64")),
        "transformer-engine": Precision(weights="bfloat16", fp8=True),
        "transformer-engine-float16": Precision(weights="float16", fp8=True),
    }
)
QUANTIZED: Mapping[str, tuple[int, str, bool]] = MappingProxyType(
    {
        "nf4": (4, "nf4", False),
        "nf4-dq": (4, "nf4", True),
        "fp4": (4, "fp4", False),
        "fp4-dq": (4, "fp4", True),
        "int8": (8, "int8", False),
        "int8-training": (8, "int8", False),
    }
)
"""Modes of BitsandbytesPrecision: bits, type, double quantization."""


def fitting_trainer(calls: Sequence[Call]) -> Call | None:
    """The `Trainer` of Lightning that fits a model; the one that is made where its use is not seen."""
    made = [call for call in calls if _is(call, "Trainer")]
    fitted = {call.receiver.place for call in calls if call.callee == ".fit" and isinstance(call.receiver, Call)}
    found = next((call for call in made if call.place in fitted), None)
    if found is not None or not made:
        return found
    only_evaluates = any(call.callee in _NO_TRAINING for call in calls) and not any(
        call.callee == ".fit" for call in calls
    )
    return None if only_evaluates else made[0]


def fabric_of(calls: Sequence[Call]) -> Call | None:
    """The `Fabric` of a hand-written loop."""
    return next((call for call in calls if _is(call, "Fabric")), None)


def fitted_model(trainer: Call, calls: Sequence[Call]) -> Value | None:
    """The module that the trainer is given to fit."""
    for call in calls:
        if call.callee == ".fit" and isinstance(call.receiver, Call) and call.receiver.place == trainer.place:
            return call.argument("model", 0)
    return None


def _is(call: Call, name: str) -> bool:
    """Whether a call makes an object of that class of Lightning, also by releases before 2 from parsed arguments."""
    if package(call.callee) not in _PACKAGES:
        return False
    return last(call.callee) == name or call.callee.endswith(f".{name}.from_argparse_args")


def trainer_facts(trainer: Call) -> Draft:
    """Facts of a Lightning `Trainer`: everything that a Fabric has, accumulation and clipping."""
    draft = device_facts(trainer)
    draft.put(stated("loop", "lightning", trainer.place, last(trainer.callee)))
    arguments = _arguments(trainer)
    steps = arguments.find("accumulate_grad_batches")
    if steps is not None and not is_absent(steps.value):
        draft.put(draw("gradient_accumulation_steps", steps.value, CONVERTERS["count"], steps.name, steps.name_place))
    elif not arguments.unseen:
        reason = "the Trainer steps after every batch unless accumulate_grad_batches says otherwise"
        draft.put(derived("gradient_accumulation_steps", 1, reason, trainer.place))
    draft.put(_clipping(arguments))
    return draft


def _clipping(arguments: Arguments) -> Drawn:
    bound, way = arguments.find("gradient_clip_val"), arguments.value("gradient_clip_algorithm")
    if isinstance(way, Scalar) and way.value == "value":
        return derived("max_grad_norm", 0, "gradients are clipped by value, not by their norm", arguments.place)
    if bound is not None and not is_absent(bound.value):
        return draw("max_grad_norm", bound.value, CONVERTERS["number"], bound.name, bound.name_place)
    if arguments.unseen:
        return None
    return derived("max_grad_norm", 0, "the Trainer clips gradients where gradient_clip_val is set", arguments.place)


def _arguments(call: Call) -> Arguments:
    """The keywords; `from_argparse_args` has more, which the command line gives."""
    arguments = Arguments.of(call)
    return arguments._replace(unseen=True) if last(call.callee) == "from_argparse_args" else arguments


def device_facts(call: Call) -> Draft:
    """Facts of the arguments that `Trainer` and `Fabric` share: precision, devices, strategy, plugins."""
    draft, arguments = Draft(), _arguments(call)
    word = _precision_word(arguments)
    plugin = _plugin(arguments)
    if plugin is not None:
        draft.take(_bitsandbytes(plugin))
    strategy = arguments.value("strategy")
    strategy_facts(draft, strategy, _dtype(word))
    for drawn in _precision(word, engine=_is_deepspeed(draft)):
        draft.put(drawn)
    draft.take(_world(arguments))
    return draft


def _is_deepspeed(draft: Draft) -> bool:
    fact = draft.facts.get("parallelism")
    return fact is not None and fact.value == "deepspeed"


def _precision_word(arguments: Arguments) -> Fact | None:
    """The `precision` as a fact of one word: 32-true where nothing is said."""
    keyword = arguments.find("precision")
    if keyword is None or is_absent(keyword.value):
        if arguments.unseen:
            return unknown("precision", "may come through ** from a mapping that cannot be seen", "precision")
        return derived("precision", "32-true", "32 bits unless precision says otherwise", arguments.place)
    drawn = draw("precision", keyword.value, _word, keyword.name, keyword.name_place)
    return drawn if isinstance(drawn, Fact) else None


def _word(value: Value) -> Converted:
    match value:
        case Scalar(value=None):
            return "32-true"
        case Scalar(value=bool()):
            return Outcome.WRONG_TYPE
        case Scalar(value=str() | int() as word):
            return str(word) if str(word) in PRECISIONS else Outcome.WRONG_TYPE
        case Scalar():
            return Outcome.WRONG_TYPE
    return Outcome.OPAQUE


def _dtype(word: Fact | None) -> str:
    return PRECISIONS[str(word.value)].dtype if word is not None and word.known else ""


def _precision(word: Fact | None, *, engine: bool) -> Iterable[Fact]:
    """Flags of autocast, and the dtype of the weights where the module is cast; a DeepSpeed engine casts by flag."""
    if word is None:
        return
    if not word.candidates:
        for name in ("bf16", "fp16"):
            yield unknown(name, word.reason, word.key)
        return
    meanings = [(item, PRECISIONS[str(item.value)]) for item in word.candidates]
    for name, dtype in (("bf16", "bfloat16"), ("fp16", "float16")):
        on = [
            Candidate((found.dtype if engine else found.autocast) == dtype, item.place, item.condition)
            for item, found in meanings
        ]
        yield _same_road(word, name, on)
    if any(found.weights for _, found in meanings):
        cast = [Candidate(found.weights or None, item.place, item.condition) for item, found in meanings]
        yield _same_road(word, "load_dtype", cast)
    if any(found.fp8 for _, found in meanings):
        yield _same_road(word, "fp8", [Candidate(found.fp8, item.place, item.condition) for item, found in meanings])


def _same_road(word: Fact, name: str, candidates: Sequence[Candidate]) -> Fact:
    return Fact(name, distinct(candidates), word.origin, word.key, word.via, reason=word.reason)


def _plugin(arguments: Arguments) -> Call | None:
    value = arguments.value("plugins")
    items = value.values if isinstance(value, Items) else (value,)
    return next((item for item in items if isinstance(item, Call) and "Bitsandbytes" in last(item.callee)), None)


def _bitsandbytes(plugin: Call) -> Iterable[Drawn]:
    """`BitsandbytesPrecision(mode, dtype)`: all linear layers are quantized, the rest takes the dtype."""
    mode, compute = plugin.argument("mode", 0), plugin.argument("dtype", 1)
    found = QUANTIZED.get(str(mode.value)) if isinstance(mode, Scalar) else None
    if found is None:
        yield unknown("quantization_bits", "the mode of BitsandbytesPrecision", "mode", plugin.place)
        return
    bits, kind, double = found
    yield stated("quantization_bits", bits, plugin.place, "mode")
    yield stated("quantization_type", kind, plugin.place, "mode")
    if bits == 4:
        yield stated("double_quantization", double, plugin.place, "mode")
    if compute is not None:
        yield draw("quantization_compute_dtype", compute, CONVERTERS["dtype"], "dtype", plugin.place)
        yield draw("load_dtype", compute, CONVERTERS["dtype"], "dtype", plugin.place)


def _world(arguments: Arguments) -> Iterable[Drawn]:
    """GPUs and machines. `auto` and -1 take whatever the machine has."""
    devices = arguments.find("devices") or arguments.find("gpus")
    nodes = arguments.find("num_nodes")
    per_node = _devices(devices, arguments)
    yield per_node
    machines = draw("nodes", nodes.value, CONVERTERS["count"], nodes.name, nodes.name_place) if nodes else None
    yield machines
    if not isinstance(per_node, Fact) or (isinstance(machines, Fact) and not machines.known):
        return
    if not per_node.candidates:
        yield Fact("world_size", (), per_node.origin, per_node.key, per_node.via, reason=per_node.reason)
        return
    count = machines.value if isinstance(machines, Fact) else 1
    if isinstance(per_node.value, int) and isinstance(count, int):
        reason = "devices · num_nodes" if count > 1 else ""
        candidate = Candidate(per_node.value * count, per_node.place)
        yield Fact("world_size", (candidate,), Origin.WRITTEN, per_node.key, per_node.via, reason=reason)


def _devices(keyword: Keyword | None, arguments: Arguments) -> Fact | None:
    if keyword is None and arguments.unseen:
        return unknown("gpus_per_node", "may come through ** from a mapping that cannot be seen", "devices")
    if keyword is None or is_absent(keyword.value):
        reason = "devices is not given: every GPU of the machine is used"
        return unknown("gpus_per_node", reason, "devices", arguments.place)
    drawn = draw("gpus_per_node", keyword.value, device_count, keyword.name, keyword.name_place)
    if isinstance(drawn, Fact) and any(item.value is None for item in drawn.candidates):
        return unknown("gpus_per_node", "every GPU of the machine is used", keyword.name, keyword.value.place)
    if drawn is None:
        return unknown("gpus_per_node", "every GPU of the machine is used", keyword.name, keyword.value.place)
    return drawn if isinstance(drawn, Fact) else None


def device_count(value: Value) -> Converted:
    """How many GPUs `devices` names; ABSENT for all that there are."""
    match value:
        case Scalar(value=bool()):
            return Outcome.WRONG_TYPE
        case Scalar(value=int(number)):
            return number if number > 0 else Outcome.ABSENT
        case Scalar(value=str(word)) if word in {"auto", "-1", ""}:
            return Outcome.ABSENT
        case Scalar(value=str(word)) if word.isdecimal():
            return int(word)
        case Scalar(value=str(word)) if all(part.strip().isdecimal() for part in word.split(",") if part):
            return len([part for part in word.split(",") if part])
        case Items(values=values) if not any(isinstance(item, Unknown) for item in values):
            return len(values) or Outcome.ABSENT
    return Outcome.OPAQUE

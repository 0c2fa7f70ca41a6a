"""Casts of parts of a model, in a loop over its modules or parameters: norms, adapters, whatever trains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Drawn, conditional, draw, stated
from vramlint.surfaces.lineage import last
from vramlint.surfaces.loading import cast_of
from vramlint.values import Call, Scalar, Unknown, Value

_PARTS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "norm_dtype": lazy(r"norm|\bln_|\.ndim == 1", re.IGNORECASE),
        "trainable_dtype": lazy(r"lora|adapter|requires_grad", re.IGNORECASE),
    }
)
"""Facts, and the tests of a module or parameter that pick the part they speak of."""
_ELEMENT = "element of a loop"
_TRAINS = "cast_mixed_precision_params"
"""PEFT's helper: what trains becomes float32, the rest the dtype given (peft 0.21 utils/other.py)."""
_FP8 = ("fp8_autocast", "convert_to_float8_training", "fp8_model_init")
_SETTINGS = ("fp8", "use_fp8", "enable_fp8", "float8")


def part_casts(calls: Sequence[Call]) -> Iterable[Drawn]:
    """`if "norm" in name: module.to(torch.float32)`: the dtype that a part of the model ends in."""
    for call in calls:
        if last(call.callee) == _TRAINS:
            yield conditional(stated("trainable_dtype", "float32", call.place, _TRAINS), call.conditions)
        if not (_is_element(call.receiver) or _is_element(call.owner)):
            continue
        fact = cast_of(call)
        if fact is None:
            continue
        for name, pattern in _PARTS.items():
            if any(pattern.search(condition) for condition in call.conditions):
                rest = tuple([condition for condition in call.conditions if not pattern.search(condition)])
                yield conditional(Fact(name, fact.candidates, fact.origin, fact.key, fact.via), rest)
                break


def _is_element(value: Value | None) -> bool:
    if isinstance(value, Call):
        return value.callee == ".parameter"
    return isinstance(value, Unknown) and (_ELEMENT in value.reason)


def eight_bit_floats(calls: Sequence[Call], settings: Mapping[str, Value]) -> Iterable[Drawn]:
    """`fp8`: Transformer Engine's context, torchao's conversion, or a setting of that name."""
    for call in calls:
        if last(call.callee) in _FP8:
            enabled = call.argument("enabled", 0) if last(call.callee) == "fp8_autocast" else None
            if enabled is None:
                yield conditional(stated("fp8", True, call.place, last(call.callee)), call.conditions)
            else:
                drawn = draw("fp8", enabled, CONVERTERS["flag"], "enabled", call.place)
                yield conditional(drawn, call.conditions) if isinstance(drawn, Fact) else drawn
            return
    for name in _SETTINGS:
        value = settings.get(name)
        if isinstance(value, Scalar) and isinstance(value.value, bool):
            yield draw("fp8", value, CONVERTERS["flag"], name)
            return

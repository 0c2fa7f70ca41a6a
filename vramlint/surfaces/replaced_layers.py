"""Models whose weights and layers the program puts in place by itself: quantized layers, weights after the fact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from vramlint.facts import Fact
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Drawn, draw, stated, unknown
from vramlint.surfaces.lineage import Lineage, last, package
from vramlint.values import Call

_LAYERS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "bitsandbytes.Linear4bit": (4, "fp4"),
        "bitsandbytes.LinearNF4": (4, "nf4"),
        "bitsandbytes.LinearFP4": (4, "fp4"),
        "bitsandbytes.Linear8bitLt": (8, "int8"),
    }
)
"""Quantized layers by package and name: their bits, and their type unless `quant_type` says another (bitsandbytes
0.50.2, nn/modules.py)."""
_EMPTY = frozenset({"init_empty_weights", "init_on_device"})


def quantized_layers(calls: Sequence[Call]) -> Iterable[Drawn]:
    """The quantization that a program gives to a model by layers of bitsandbytes in the place of its own."""
    for call in calls:
        row = _LAYERS.get(f"{package(call.callee)}.{last(call.callee)}")
        if row is None:
            continue
        bits, kind = row
        yield stated("quantization_bits", bits, call.place, last(call.callee))
        told = call.argument("quant_type")
        named = draw("quantization_type", told, CONVERTERS["text"], "quant_type", call.place) if told else None
        yield named if isinstance(named, Fact) else stated("quantization_type", kind, call.place, last(call.callee))
        double = call.argument("compress_statistics")
        if double is not None:
            yield draw("double_quantization", double, CONVERTERS["flag"], "compress_statistics", call.place)
        elif kind != "int8":  # on by default in the layer itself
            yield stated("double_quantization", True, call.place, last(call.callee))
        compute = call.argument("compute_dtype")
        if compute is not None:
            yield draw("quantization_compute_dtype", compute, CONVERTERS["dtype"], "compute_dtype", call.place)
        return


def fills_by_hand(calls: Sequence[Call], ways: Sequence[Lineage]) -> Call | None:
    """The model that is made of a config without weights, for the program to put a checkpoint's there; else None."""
    if not any(last(call.callee) in _EMPTY for call in calls):
        return None
    roots = [way.root for way in ways if isinstance(way.root, Call) and last(way.root.callee) == "from_config"]
    return roots[0] if roots and len(roots) == len(ways) else None


def unseen_weights(model: Call) -> Fact:
    """The dtype of weights that the program puts there by itself."""
    return unknown("load_dtype", "the program loads the weights by itself", "from_config", model.place)

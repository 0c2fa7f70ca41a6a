"""Quantized loading: BitsAndBytesConfig and its relatives, `load_in_4bit=` given to the loader itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from vramlint.facts import Candidate, Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS, flag
from vramlint.surfaces.draft import (
    Arguments,
    Drawn,
    distinct,
    draw,
    is_absent,
    left_off,
    options,
    stated,
    under,
    united,
    unknown,
)
from vramlint.surfaces.keys import rows
from vramlint.surfaces.lineage import last
from vramlint.values import Call, Keyword, Name, Scalar, Table, Unknown, Value

_OTHERS: Mapping[str, tuple[str, str, int]] = MappingProxyType(
    {
        "GPTQConfig": ("gptq", "bits", 4),
        "AwqConfig": ("awq", "bits", 4),
        "HqqConfig": ("hqq", "nbits", 4),
        "AqlmConfig": ("aqlm", "", 2),
        "QuantoConfig": ("quanto", "weights", 8),
        "EetqConfig": ("eetq", "", 8),
        "TorchAoConfig": ("torchao", "quant_type", 4),
        "Mxfp4Config": ("mxfp4", "", 4),
        "FineGrainedFP8Config": ("fp8", "", 8),
        "FbgemmFp8Config": ("fp8", "", 8),
        "HiggsConfig": ("higgs", "bits", 4),
        "VptqConfig": ("vptq", "", 2),
    }
)
"""Other quantization configs of transformers 5.23.0 (utils/quantization_config.py): method, key of the bits, and the
bits where it says none."""
_BITS = lazy(r"int(\d+)|float(\d+)", re.IGNORECASE)
"""The bits in the name of a dtype or of one of torchao's configs."""

NAMES = (
    "quantization_bits",
    "quantization_type",
    "double_quantization",
    "quantization_compute_dtype",
    "quantization_group_size",
    "quantization_skip_modules",
)


def quantization_facts(arguments: Arguments) -> Iterable[Drawn]:
    """Facts of the quantization under which a loader is called.

    Args:
        arguments: keywords of `from_pretrained`, or `model_init_kwargs`.
    """
    keyword = arguments.find("quantization_config")
    if keyword is None:
        bits = _bits(arguments)
        if bits is not None:
            yield bits
        return
    ways = [(_of_config(option.value, keyword), option.condition) for option in options(keyword.value)]
    if any(facts is not None for facts, _ in ways):
        for name in (*NAMES, "quantization_storage_dtype"):
            yield united(under(_named(facts, name), condition) for facts, condition in ways)


def _named(facts: tuple[Fact, ...] | None, name: str) -> Fact | None:
    if facts is None:
        return stated(name, 16, None) if name == "quantization_bits" else None
    return next((fact for fact in facts if fact.name == name), None)


def _of_config(value: Value, keyword: Keyword) -> tuple[Fact, ...] | None:
    """Facts of one possible `quantization_config`; None when that is None: not quantized."""
    if is_absent(value):
        return None
    match value:
        case Unknown():
            return tuple(unknown(name, value.reason, keyword.name, value.place) for name in NAMES)
        case Table():
            return _bitsandbytes(Arguments.of(value))
        case Call():
            name = last(value.callee)
            if name == "get_quantization_config" and left_off(value, "load_in_4bit", "load_in_8bit"):
                return None
            if name == "BitsAndBytesConfig":
                return _bitsandbytes(Arguments.of(value))
            if name in _OTHERS:
                return _other(value, *_OTHERS[name])
            reason = f"result of {name}(…)"
            return tuple(unknown(fact, reason, keyword.name, value.place) for fact in NAMES)
        case Name():
            return tuple(unknown(name, f"value of {value.qualified}", keyword.name, value.place) for name in NAMES)
    return tuple(unknown(name, "computed at run time", keyword.name, keyword.name_place) for name in NAMES)


def _bitsandbytes(arguments: Arguments) -> tuple[Fact, ...]:
    facts = [_bits(arguments)]
    for row in rows("bitsandbytes").values():
        keyword = arguments.find(row.key)
        if keyword is None or row.fact == "quantization_bits":
            continue
        drawn = draw(row.fact, keyword.value, CONVERTERS[row.converter], row.key, keyword.name_place)
        if isinstance(drawn, Fact):
            facts.append(drawn)
    return tuple(fact for fact in facts if fact is not None)


def _other(call: Call, method: str, key: str, otherwise: int) -> tuple[Fact, ...]:
    facts = [stated("quantization_type", method, call.place, last(call.callee))]
    given = call.argument(key, 0) if key else None
    group = call.argument("group_size") or (given.argument("group_size", 0) if isinstance(given, Call) else None)
    if group is not None:
        drawn = draw("quantization_group_size", group, CONVERTERS["count"], "group_size", call.place)
        facts += [drawn] if isinstance(drawn, Fact) else []
    skipped = call.argument("modules_to_not_convert") or call.argument("skip_modules")
    if skipped is not None:
        drawn = draw("quantization_skip_modules", skipped, CONVERTERS["names"], "modules_to_not_convert", call.place)
        facts += [drawn] if isinstance(drawn, Fact) else []
    if given is None:
        return (*facts, stated("quantization_bits", otherwise, call.place, last(call.callee)))
    named = last(given.callee) if isinstance(given, Call) else given.value if isinstance(given, Scalar) else None
    found = _BITS.search(named) if isinstance(named, str) else None
    if found is not None:
        return (*facts, stated("quantization_bits", int(found[1] or found[2]), call.place, key))
    drawn = draw("quantization_bits", given, CONVERTERS["count"], key, call.place)
    return (*facts, drawn) if isinstance(drawn, Fact) else tuple(facts)


def _bits(arguments: Arguments) -> Fact | None:
    """4 or 8 by whichever flag is on, 16 where both are known to be off; None when neither is given."""
    four, eight = arguments.find("load_in_4bit"), arguments.find("load_in_8bit")
    if four is None and eight is None:
        return None
    facts: list[tuple[int, Keyword]] = [(bits, item) for bits, item in ((4, four), (8, eight)) if item is not None]
    candidates: list[Candidate] = []
    for bits, keyword in facts:
        drawn = draw("quantization_bits", keyword.value, flag, keyword.name, keyword.name_place)
        if not isinstance(drawn, Fact):
            continue
        if drawn.origin is Origin.UNKNOWN:
            return drawn
        for item in drawn.candidates:
            if item.value is True:
                candidates.append(Candidate(bits, item.place, item.condition))
        if drawn.known and drawn.value is True:
            return Fact("quantization_bits", (candidates[-1],), Origin.WRITTEN, keyword.name, drawn.via)
    keyword = facts[0][1]
    off = Candidate(16, keyword.value.place or keyword.name_place)
    return Fact("quantization_bits", distinct((*candidates, off)), Origin.WRITTEN, keyword.name, "literal")

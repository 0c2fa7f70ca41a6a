"""Converters of Accelerate's own words: how `accelerate launch` reads what its configuration and its flags hold."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.convert import CONVERTERS, Converted, Converter, Outcome
from vramlint.surfaces.fsdp_config import FSDP_CONVERTERS
from vramlint.surfaces.numbers import whole
from vramlint.values import Scalar, Value

STRATEGIES: Mapping[str, str] = MappingProxyType(
    {
        "NO": "none",
        "MULTI_GPU": "ddp",
        "MULTI_NPU": "ddp",
        "MULTI_XPU": "ddp",
        "MULTI_MLU": "ddp",
        "MULTI_HPU": "ddp",
        "MULTI_MUSA": "ddp",
        "DEEPSPEED": "deepspeed",
        "FSDP": "fsdp",
    }
)
"""`distributed_type` and the fact `parallelism`."""

PRECISIONS = ("no", "fp16", "bf16", "fp8")
"""Words of `mixed_precision`."""


def word_of(value: Value | None) -> str | None:
    """What a scalar spells; None for nothing and for false."""
    return str(value.value) if isinstance(value, Scalar) and value.value not in (None, False) else None


def strategy(value: Value) -> Converted:
    """`distributed_type` as `parallelism`."""
    if isinstance(value, Scalar) and value.value is False:
        return "none"  # a bare `no` is YAML's false
    return STRATEGIES.get(str(word_of(value)).upper(), Outcome.OPAQUE)


def precision(name: str) -> Converter:
    """What `mixed_precision` says of one precision: of `bf16`, `fp16` or `fp8`."""

    def convert(value: Value) -> Converted:
        word = (word_of(value) or "no").lower() if isinstance(value, Scalar) else ""
        if word == "fp8":
            return name in ("bf16", "fp8")  # 8-bit matrix products inside of bf16 autocast
        if name == "fp8":
            return Outcome.ABSENT
        return word == name if word in PRECISIONS else Outcome.OPAQUE

    return convert


def processes(value: Value) -> Converted:
    """A number of processes or machines, also in quotes."""
    numbers = whole(str(word_of(value)))
    return Outcome.OPAQUE if isinstance(numbers, str) else numbers[0]


def whole_word(value: Value) -> Converted:
    """A whole number, also in quotes; `auto` leaves it to the Accelerator or the Trainer."""
    word = word_of(value)
    if word == "auto":
        return Outcome.ABSENT
    return int(word) if word is not None and word.isdigit() else CONVERTERS["count"](value)


def bound_word(value: Value) -> Converted:
    """A number, also in quotes; `auto` leaves it to the Accelerator or the Trainer."""
    word = word_of(value)
    if word == "auto":
        return Outcome.ABSENT
    try:
        return float(word) if word is not None else Outcome.ABSENT
    except ValueError:
        return Outcome.WRONG_TYPE


def compiles(value: Value) -> Converted:
    """`dynamo_backend`: any but `NO` compiles; that one leaves it to the program."""
    return Outcome.ABSENT if str(word_of(value) or "no").upper() in ("NO", "NONE") else True


ACCELERATE_CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {
        **CONVERTERS,
        **FSDP_CONVERTERS,
        "strategy": strategy,
        "bf16-word": precision("bf16"),
        "fp16-word": precision("fp16"),
        "fp8-word": precision("fp8"),
        "processes": processes,
        "whole-word": whole_word,
        "bound-word": bound_word,
        "compiles": compiles,
    }
)
"""Converters by the name that key tables use: those of all vocabularies, of FSDP's options and Accelerate's own."""

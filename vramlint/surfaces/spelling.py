"""The way back from facts to what a key has to hold, one inverse for each converter of the key tables.

An inverse is trusted only as far as its converter confirms it: what is spelled, read again, has to give the fact's
value. What a key cannot say is so refused, and never written wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.accelerate_words import ACCELERATE_CONVERTERS, PRECISIONS
from vramlint.surfaces.convert import Converted, Converter, Outcome
from vramlint.surfaces.flat import NUMERIC, lenient
from vramlint.surfaces.keys import KeyRow
from vramlint.surfaces.lightning import PRECISIONS as LIGHTNING
from vramlint.surfaces.lightning import device_count
from vramlint.values import Entry, Items, Plain, Scalar, Table, Value

Written = Plain | tuple[Plain, ...] | Mapping[str, Plain]
"""What a key may be made to hold: a scalar, a list, or a mapping without tables in it."""
Inverse = Callable[[FactValue], Written]


def _flag(value: FactValue) -> Plain:
    return value if isinstance(value, bool) else None


def _count(value: FactValue) -> Plain:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: FactValue) -> Plain:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: FactValue) -> Plain:
    return value if isinstance(value, str) and value else None


def _names(value: FactValue) -> Written:
    return value if isinstance(value, tuple) and value else _text(value)


def _numbers(value: FactValue) -> Written:
    found = value if isinstance(value, tuple) else ()
    return tuple([int(item) for item in found if item.isdecimal()]) or None


def _pairs(value: FactValue) -> Written:
    found = [item.rpartition("=") for item in value] if isinstance(value, tuple) else []
    return {key: int(number) for key, _, number in found if number.isdecimal()} or None


def _bits(bits: int) -> Inverse:
    return lambda value: value == bits if isinstance(value, int) and not isinstance(value, bool) else None


def _words(words: Mapping[FactValue, Plain]) -> Inverse:
    return words.get


INVERSES: Mapping[str, Inverse] = MappingProxyType(
    {
        **dict.fromkeys(("flag", "switch", "truth", "resharding"), _flag),
        **dict.fromkeys(("count", "elements", "bound", "processes", "whole-word", "devices"), _count),
        **dict.fromkeys(("number", "bound-word"), _number),
        **dict.fromkeys(("text", "name", "dtype", "device", "device-map", "fsdp", "policy"), _text),
        "names": _names,
        "classes": lambda value: ",".join(value) if isinstance(value, tuple) else _text(value),
        "numbers": _numbers,
        "pairs": _pairs,
        "four-bit": _bits(4),
        "eight-bit": _bits(8),
        "flash": _words({"flash_attention_2": True}),
        "lora-or-full": _words({"lora": True, "full": False}),
        "vllm-or-none": _words({"vllm": True, "none": False}),
        **dict.fromkeys(("cpu-or-none", "offload-device"), _words({"cpu": True, "none": False})),
        "strategy": _words({"none": "NO", "ddp": "MULTI_GPU", "deepspeed": "DEEPSPEED", "fsdp": "FSDP"}),
        "prefetch": _words({word: word.upper() for word in ("backward_pre", "backward_post", "no_prefetch")}),
        "state-dict": _words(
            {f"{word}_state_dict": f"{word}_state_dict".upper() for word in ("full", "local", "sharded")}
        ),
        "tensor-plan": _words({"tp_plan": "auto"}),
        "compiles": _words({True: "INDUCTOR"}),
        "eight-bit-adam": _words({"adamw_bnb_8bit": True}),
    }
)
"""What a key with a converter has to hold, for it to give a value; None: it can't give that. Converters that are not
here cannot be turned round: `tokens` counts what it reads."""


def _offloads(value: Value) -> Converted:
    """Whether Unsloth's `use_gradient_checkpointing` keeps the inputs of layers in host memory."""
    return value.value == "unsloth" if isinstance(value, Scalar) else Outcome.OPAQUE


def _eight_bit_adam(value: Value) -> Converted:
    """`--use_8bit_adam`: bitsandbytes' AdamW; without it the program's own."""
    return "adamw_bnb_8bit" if value == Scalar(True, value.place) else Outcome.ABSENT


def _autocast(dtype: str) -> Converter:
    """Whether Lightning's `precision` computes under autocast in a dtype."""

    def convert(value: Value) -> Converted:
        word = str(value.value) if isinstance(value, Scalar) else ""
        return LIGHTNING[word].autocast == dtype if word in LIGHTNING else Outcome.OPAQUE

    return convert


CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {
        **ACCELERATE_CONVERTERS,
        "unsloth-switch": ACCELERATE_CONVERTERS["switch"],
        "unsloth-offload": _offloads,
        "eight-bit-adam": _eight_bit_adam,
        "devices": device_count,
        "bf16-precision": _autocast("bfloat16"),
        "fp16-precision": _autocast("float16"),
    }
)
"""Every converter of the key tables."""

_SWITCHES = (True, False, "unsloth")
_AUTOCASTS = ("32-true", "16-mixed", "bf16-mixed")
_CHOICES: Mapping[str, tuple[Plain, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("bf16-word", "fp16-word", "fp8-word"), PRECISIONS),
        **dict.fromkeys(("bf16-precision", "fp16-precision"), _AUTOCASTS),
        **dict.fromkeys(("unsloth-switch", "unsloth-offload"), _SWITCHES),
    }
)
"""Words of keys each of which says several facts, by the converter of any of them."""


def spelled(rows: Sequence[KeyRow], wanted: Mapping[str, FactValue], now: Mapping[str, FactValue]) -> Written:
    """What one key has to hold for it to say all that is wanted; None where it cannot.

    Args:
        rows: of the key, one for each fact that it says.
        wanted: those facts' new values.
        now: what the key says now: of several words that will do, the one that changes the least of it is taken.
    """
    asked = [row for row in rows if row.fact in wanted]
    choices: Sequence[Written] = _CHOICES.get(asked[0].converter, ())
    if not choices:
        inverse = INVERSES.get(asked[0].converter)
        choices = () if inverse is None else (inverse(wanted[asked[0].fact]),)
    fitting = [word for word in choices if word is not None and all(says(row, word, wanted[row.fact]) for row in asked)]
    return max(
        fitting, key=lambda word: sum(says(row, word, now[row.fact]) for row in rows if row.fact in now), default=None
    )


def says(row: KeyRow, written: Written, value: FactValue) -> bool:
    """Whether a key that holds `written` is read as `value`."""
    return reads(row, value_of(written), value)


def reads(row: KeyRow, held: Value, value: FactValue) -> bool:
    """Whether what a key holds is read as `value`; a boolean is no number."""
    convert = CONVERTERS.get(row.converter)
    read = convert(lenient(held) if row.converter in NUMERIC else held) if convert is not None else Outcome.OPAQUE
    return not isinstance(read, Outcome) and read == value and isinstance(read, bool) == isinstance(value, bool)


def value_of(written: Written) -> Value:
    """What is written, as a reader would give it."""
    if isinstance(written, tuple):
        return Items(tuple([Scalar(item) for item in written]))
    if isinstance(written, Mapping):
        return Table(tuple([Entry(key, None, Scalar(item)) for key, item in written.items()]))
    return Scalar(written)

"""Values of a DeepSpeed JSON held against the types that DeepSpeed's reader takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.versions import Version, at_least
from vramlint.patterns import lazy
from vramlint.values import Scalar, Table, Value

_VALIDATED = (
    "zero_optimization",
    "fp16",
    "bf16",
    "bfloat16",
    "comms_logger",
    "tensorboard",
    "wandb",
    "csv_monitor",
    "comet",
    "hybrid_engine",
    "compile",
    "timers",
    "tensor_parallel",
)
"""Sections that DeepSpeed reads with pydantic: an unknown key there raises (deepspeed 0.19.8, runtime/config_utils.py).
Elsewhere an unknown key is ignored in silence."""

_WHOLE = lazy(r"\s*[-+]?\d+(_\d+)*(\.0+)?\s*")
_WORDS = frozenset(["true", "false", "1", "0", "on", "off", "yes", "no", "t", "f", "y", "n"])
"""Strings that pydantic takes for a boolean (pydantic 2, conversion table)."""
_TRUE = frozenset(["true", "1", "on", "yes", "t", "y"])
_ALTERNATIVES = lazy(r"enum ([\w|]+)( \(any case\))?")


_VALIDATED_SINCE: Mapping[str, Version] = MappingProxyType(dict.fromkeys(("fp16", "bf16", "bfloat16"), (0, 17, 1)))
"""Releases that added runtime/precision_config.py: before, these sections were read key by key (runtime/config.py)."""


def is_validated(key: str, version: Version | None = None) -> bool:
    """Whether a dotted key is of a section that DeepSpeed validates, in a release of it, by default the newest."""
    section, dot, _ = key.partition(".")
    since = _VALIDATED_SINCE.get(section, ())
    return bool(dot) and section in _VALIDATED and (version is None or at_least(version, since))


def as_read(key: str, converter: str, value: Value) -> Value:
    """The value that DeepSpeed makes of a quoted one.

    Where it validates, `"true"` is a boolean and `"500000000"` a number.

    Args:
        key: dotted.
        converter: of the fact that the key says, as key tables name it.
        value: as written.
    """
    if not (isinstance(value, Scalar) and isinstance(value.value, str) and is_validated(key)):
        return value
    text = value.value.lower()
    if converter == "flag" and text in _WORDS:
        return replace(value, value=text in _TRUE)
    if converter == "elements" and _WHOLE.fullmatch(text):
        return replace(value, value=int(float(text.replace("_", ""))))
    return value


def refuses(declared: str, value: Value, *, validated: bool) -> bool:
    """Whether a key of that type cannot take a value. What is not plain is never refused, nor are null and "auto".

    Args:
        declared: the type as the catalog has it: bool, int, `int | "auto"`, `enum a|b`, object, …
        value: as written.
        validated: the section is read by pydantic, which takes `"500000000"` and `"true"` for what they spell, and
            refuses `"5e8"`; elsewhere the value is used as it is.
    """
    if isinstance(value, Table):
        return declared in _PLAIN
    if not isinstance(value, Scalar) or value.value is None or value.value == "auto":
        return False
    plain = value.value
    if declared in _PLAIN:
        return not _PLAIN[declared](plain, validated)
    if declared == "object":
        return True
    match = _ALTERNATIVES.fullmatch(declared)
    return bool(match) and not _is_among(plain, match[1].split("|"), any_case=bool(match[2])) if match else False


def _is_truth(value: object, validated: bool) -> bool:
    if isinstance(value, str):
        return validated and value.lower() in _WORDS
    return isinstance(value, bool) or value in (0, 1)


def _is_whole(value: object, validated: bool) -> bool:
    if isinstance(value, str):
        return validated and _WHOLE.fullmatch(value) is not None
    if isinstance(value, float) and validated:
        return value.is_integer()
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_number(value: object, validated: bool) -> bool:
    if isinstance(value, str):
        return validated and _spells_a_number(value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spells_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_among(value: object, words: list[str], *, any_case: bool) -> bool:
    text = str(value)
    return text in words or (any_case and text.lower() in [word.lower() for word in words])


_PLAIN: Mapping[str, Callable[[object, bool], bool]] = MappingProxyType(
    {
        "bool": _is_truth,
        "int": _is_whole,
        "int bytes": _is_whole,
        'int | "auto"': _is_whole,
        "float": _is_number,
        'float | "auto"': _is_number,
    }
)
"""Types of plain values, by the catalog's word, and what they take."""

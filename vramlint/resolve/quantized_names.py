"""Checkpoints that are quantized already, as their names say: `Qwen2.5-7B-Instruct-AWQ`, `…-unsloth-bnb-4bit`."""

from __future__ import annotations

import re

from msgspec import Struct

from vramlint.patterns import lazy


class Named(Struct, frozen=True):
    """What a name says: the network that was quantized, and how."""

    base: str
    method: str
    bits: int


_SUFFIXES: tuple[tuple[re.Pattern[str], str], ...] = (
    (lazy(r"-(?:unsloth-)?bnb-(?P<bits>4)bit$", re.IGNORECASE), "nf4"),
    (lazy(r"-GPTQ(?:-Int(?P<bits>[48]))?$", re.IGNORECASE), "gptq"),
    (lazy(r"-AWQ(?:-Int(?P<bits>4))?$", re.IGNORECASE), "awq"),
    (lazy(r"-Int(?P<bits>[48])$", re.IGNORECASE), "gptq"),
    (lazy(r"-FP(?P<bits>8)$", re.IGNORECASE), "fp8"),
)
"""Ends of names and the method; `-Int4` alone is how Qwen's first GPTQ checkpoints are called."""


def quantized_name(name: str) -> Named | None:
    """What a name of the hub says about quantization; None where it says nothing."""
    for pattern, method in _SUFFIXES:
        match = pattern.search(name)
        if match:
            return Named(name[: match.start()], method, int(match["bits"] or 4))
    return None

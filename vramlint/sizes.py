"""Sizes of memory as people write them: `512GiB`, `2 TB`."""

from __future__ import annotations

import re

from msgspec import Struct

from vramlint.patterns import lazy

_SIZE = r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,3})?)\s*(?P<unit>[mgt])i?b?"
_UNITS = {"m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str) -> int | None:
    """Bytes of a size in mega-, giga- or terabytes, None where it is none; all units are powers of 1024.

    The units are read as makers of memory and schedulers of clusters use them, where GB is 2^30 bytes too.
    """
    match = re.fullmatch(_SIZE, text.strip().lower())
    return (int(float(match["number"]) * _UNITS[match["unit"]]) or None) if match else None


class Limit(Struct, frozen=True):
    """How much of something may be added: so many bytes, or a part of what is there."""

    written: str
    bytes: int
    part: float

    def of(self, before: int) -> float:
        """Bytes that may be added to `before`."""
        return self.bytes + self.part * before


_PERCENT = lazy(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%")


def parse_limit(text: str) -> Limit | None:
    """A limit such as `512MiB`, `1GiB`, `5%` or `0`; None where it is none of them."""
    written = text.strip()
    if written == "0":
        return Limit(written, 0, 0.0)
    match = _PERCENT.fullmatch(written)
    if match is not None:
        return Limit(written, 0, float(match[1]) / 100)
    size = parse_size(written)
    return None if size is None else Limit(written, size, 0.0)

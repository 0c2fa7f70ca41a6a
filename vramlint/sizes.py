"""Sizes of memory as people write them: `512GiB`, `2 TB`."""

from __future__ import annotations

import re

_SIZE = r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,3})?)\s*(?P<unit>[mgt])i?b?"
_UNITS = {"m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str) -> int | None:
    """Bytes of a size in mega-, giga- or terabytes, None where it is none; all units are powers of 1024.

    The units are read as makers of memory and schedulers of clusters use them, where GB is 2^30 bytes too.
    """
    match = re.fullmatch(_SIZE, text.strip().lower())
    return (int(float(match["number"]) * _UNITS[match["unit"]]) or None) if match else None

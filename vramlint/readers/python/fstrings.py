"""LibCST's nodes of f-strings with names and attributes inside, which most are; see `conversion`."""

from __future__ import annotations

import re
from typing import Any

from vramlint.patterns import lazy
from vramlint.readers.python import nodes as make
from vramlint.readers.python.placed import Placed

_OPENING = lazy(r"(?:[fF][rR]?|[rR][fF])(\"{3}|'{3}|\"|')")
_TEXT = lazy(r"(?:[^{}]|\{\{|\}\})+")
_VALUE = lazy(r"\{([a-z_]\w*(?:[.][a-z_]\w*)*)(?:!([rsa]))?(?::([^{}]+))?\}", re.ASCII | re.IGNORECASE)


def formatted(placed: Placed, start: int, end: int) -> Any:  # noqa: ANN401 (nodes are made with fields of any kind)
    """The f-string from `start` to `end`; None where it is several strings, or holds anything but names."""
    text = placed.text
    opening = _OPENING.match(text, start, end)
    if opening is None:
        return None
    quotes: str = opening[1]
    position, stop = opening.end(), end - len(quotes)
    if text.find(quotes, position) != stop or "\\" in text[start:end] or "\r" in text[start:end]:
        return None
    pieces: list[re.Match[str]] = []
    while position < stop:
        found = _TEXT.match(text, position, stop) or _VALUE.match(text, position, stop)
        if found is None:
            return None
        pieces.append(found)
        position = found.end()
    parts = tuple([placed.at(_part(placed, found), *found.span()) for found in pieces])
    return make.formatted(parts, opening[0], quotes)


def _part(placed: Placed, found: re.Match[str]) -> Any:  # noqa: ANN401
    if found.re.groups == 0:
        return make.formatted_text(found[0])
    spec = None if found[3] is None else (placed.at(make.formatted_text(found[3]), *found.span(3)),)
    return make.formatted_value(placed.dotted(found[1], found.start(1)), found[2], spec)

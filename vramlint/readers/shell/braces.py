"""Brace expansion: `{a,b}` and `{1..4}`."""

from __future__ import annotations

from vramlint.patterns import lazy
from vramlint.readers.shell import scan

Part = tuple[int, int, str | None]
"""A stretch of the source, or a text that stands for it."""

MOST = 256
_RANGE = lazy(r"\{(-?\d{1,9}|[A-Za-z])\.\.(-?\d{1,9}|[A-Za-z])(?:\.\.(-?\d{1,9}))?\}")


def alternatives(text: str, start: int, end: int) -> list[list[Part]]:
    """The words that the word between two offsets stands for, each as its parts; itself where it has no braces."""
    found = _expanded(text, start, end, 0) if "{" in text[start:end] else None
    return found if found is not None else [[(start, end, None)]]


def _expanded(text: str, start: int, end: int, depth: int) -> list[list[Part]] | None:
    index = start
    while index < end:
        character = text[index]
        if character == "{":
            options = _options(text, index, end, depth)
            if options is not None:
                choices, last = options
                rest = _expanded(text, last, end, depth) if last < end else [[]]
                rest = [[(last, end, None)]] if rest is None else rest
                if len(choices) * len(rest) > MOST:
                    return None
                front: list[Part] = [(start, index, None)] if index > start else []
                return [[*front, *choice, *tail] for choice in choices for tail in rest]
            index += 1
        elif character == "\\":
            index += 2
        elif character == "'":
            index = scan.single(text, index)
        elif character == '"':
            index = scan.double(text, index)
        elif character == "$":
            index = scan.dollar(text, index)
        elif character == "`":
            index = scan.backquote(text, index)
        else:
            index += 1
    return None


def _options(text: str, index: int, end: int, depth: int) -> tuple[list[list[Part]], int] | None:
    match = _RANGE.match(text, index, end)
    if match:
        items = _sequence(match[1], match[2], match[3])
        return ([[(index, match.end(), item)] for item in items], match.end()) if items else None
    cuts = [index]
    level, place = 0, index + 1
    while place < end:
        character = text[place]
        if character == "{":
            level += 1
        elif character == "}":
            if not level:
                break
            level -= 1
        elif character == "," and not level:
            cuts.append(place)
        elif character in "\\'\"$`":
            place = _behind(text, place)
            continue
        place += 1
    if place >= end or len(cuts) < 2 or depth > 8:
        return None
    found: list[list[Part]] = []
    for first, last in zip(cuts, [*cuts[1:], place], strict=True):
        if first + 1 == last:
            found.append([])
        else:
            found += _expanded(text, first + 1, last, depth + 1) or [[(first + 1, last, None)]]
    return found, place + 1


def _behind(text: str, index: int) -> int:
    match text[index]:
        case "\\":
            return index + 2
        case "'":
            return scan.single(text, index)
        case '"':
            return scan.double(text, index)
        case "$":
            return scan.dollar(text, index)
        case _:
            return scan.backquote(text, index)


def _sequence(first: str, last: str, step: str | None) -> list[str]:
    letters = first.isalpha() and last.isalpha()
    if first.isalpha() is not last.isalpha():
        return []
    low, high = (ord(first), ord(last)) if letters else (int(first), int(last))
    size = abs(int(step or 1)) or 1
    if abs(high - low) // size >= MOST:
        return []
    numbers = range(low, high + 1, size) if low <= high else range(low, high - 1, -size)
    if letters:
        return [chr(number) for number in numbers]
    padded = any(len(item.lstrip("-")) > 1 and item.lstrip("-").startswith("0") for item in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [f"{number:0{width}d}" if width else str(number) for number in numbers]

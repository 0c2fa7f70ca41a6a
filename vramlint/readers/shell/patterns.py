"""Glob patterns, matched without backtracking that could explode."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from vramlint.readers.shell.pieces import Pieces, Text

Test = Callable[[str], bool]
LONGEST = 2000
"""Characters of a subject that prefixes and suffixes are cut from: the search is quadratic."""


class Pattern(Struct, frozen=True):
    """One test for a character each, None for `*`; `literal` where nothing but characters stands in it."""

    tests: tuple[Test | None, ...]
    literal: str | None


def pattern(pieces: Pieces) -> Pattern | None:
    """The pattern that unquoted wildcards make of a word; None if it is unknown or an extended glob."""
    tests: list[Test | None] = []
    literal: list[str] = []
    wild = False
    for piece in pieces:
        if not isinstance(piece, Text):
            return None
        if piece.quoted:
            tests += [_equals(character) for character in piece.text]
            literal.append(piece.text)
            continue
        index, text = 0, piece.text
        while index < len(text):
            character = text[index]
            bracket = _bracket(text, index) if character == "[" else None
            if character in "@?*+!" and text[index + 1 : index + 2] == "(":
                return None
            if character in "*?" or bracket:
                wild = True
                tests.append(None if character == "*" else bracket[0] if bracket else _anything)
                index = bracket[1] if bracket else index + 1
            else:
                tests.append(_equals(character))
                literal.append(character)
                index += 1
    return Pattern(tuple(tests), None if wild else "".join(literal))


def _equals(wanted: str) -> Test:
    return wanted.__eq__


def _anything(_: str) -> bool:
    return True


_CLASSES: dict[str, Test] = {
    "digit": str.isdigit,
    "alpha": str.isalpha,
    "alnum": str.isalnum,
    "space": str.isspace,
    "upper": str.isupper,
    "lower": str.islower,
}


def _bracket(text: str, index: int) -> tuple[Test, int] | None:
    """The test of `[a-z]` at `index`, and where it ends."""
    start = index + 1
    opposite = text[start : start + 1] in ("!", "^") and text[start : start + 1] != ""
    start += opposite
    end = start + 1
    while end < len(text) and text[end] != "]":
        closing = text.find(":]", end + 2) if text.startswith("[:", end) else -1
        end = closing + 2 if closing >= 0 else end + 1
    if end >= len(text):
        return None
    content = text[start:end]
    classes = [test for name, test in _CLASSES.items() if f"[:{name}:]" in content]
    for name in _CLASSES:
        content = content.replace(f"[:{name}:]", "")
    ranges: list[tuple[str, str]] = []
    place = 0
    while place < len(content):
        if content[place + 1 : place + 2] == "-" and place + 2 < len(content):
            ranges.append((content[place], content[place + 2]))
            place += 3
        else:
            ranges.append((content[place], content[place]))
            place += 1

    def inside(character: str) -> bool:
        found = any(low <= character <= high for low, high in ranges) or any(test(character) for test in classes)
        return found is not opposite

    return inside, end + 1


def matches(wanted: Pattern, text: str) -> bool:
    """Whether the whole text fits."""
    if wanted.literal is not None:
        return wanted.literal == text
    tests = wanted.tests
    place = index = 0
    star, resume = -1, 0
    while index < len(text):
        test = tests[place] if place < len(tests) else _never
        if test is None:
            star, resume = place, index
            place += 1
        elif test(text[index]):
            place += 1
            index += 1
        elif star >= 0:
            resume += 1
            place, index = star + 1, resume
        else:
            return False
    return all(test is None for test in tests[place:])


def _never(_: str) -> bool:
    return False


def without_prefix(text: str, wanted: Pattern, *, longest: bool) -> str | None:
    """`${X#pattern}`; None for a text too long to search."""
    if len(text) > LONGEST:
        return None
    for end in range(len(text), -1, -1) if longest else range(len(text) + 1):
        if matches(wanted, text[:end]):
            return text[end:]
    return text


def without_suffix(text: str, wanted: Pattern, *, longest: bool) -> str | None:
    """`${X%pattern}`; None for a text too long to search."""
    if len(text) > LONGEST:
        return None
    for start in range(len(text) + 1) if longest else range(len(text), -1, -1):
        if matches(wanted, text[start:]):
            return text[:start]
    return text


def replaced(text: str, wanted: Pattern, new: str, form: str) -> str | None:
    """`${X/pattern/new}`; `form` is `/` for the first match, `//` for all, `/#` and `/%` for a prefix and a suffix."""
    if wanted.literal is not None and form in ("/", "//"):
        return text.replace(wanted.literal, new, -1 if form == "//" else 1) if wanted.literal else text
    if form == "/#":
        rest = without_prefix(text, wanted, longest=True)
        return rest if rest is None or rest == text else new + rest
    if form == "/%":
        rest = without_suffix(text, wanted, longest=True)
        return rest if rest is None or rest == text else rest + new
    if len(text) > LONGEST // 10:
        return None
    found: list[str] = []
    index = 0
    while index < len(text):
        end = next((end for end in range(len(text), index, -1) if matches(wanted, text[index:end])), None)
        if end is None:
            found.append(text[index])
            index += 1
            continue
        found.append(new)
        index = end
        if form == "/":
            break
    return "".join(found) + text[index:]

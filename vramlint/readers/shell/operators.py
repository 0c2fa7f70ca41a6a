"""What stands behind the name in `${X…}`: defaults, prefixes, substitutions, parts, letter case."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vramlint.patterns import lazy
from vramlint.readers.shell.machine import Machine
from vramlint.readers.shell.patterns import Pattern, pattern, replaced, without_prefix, without_suffix
from vramlint.readers.shell.pieces import (
    Fork,
    Hole,
    Piece,
    Pieces,
    Text,
    Word,
    assigned,
    chosen,
    known,
    mapped,
    referred,
    variants,
    written,
)
from vramlint.readers.shell.source import Range

_OPERATOR = lazy(r":?[-=+?]|##?|%%?|//|/[#%]?|\^\^?|,,?|~~?|@[A-Za-z]|:")
_NUMBER = lazy(r"\s*-?\d+\s*")


def applied(
    machine: Machine, name: str, pieces: Pieces | None, rest: tuple[int, int], at: Range, *, quoted: bool
) -> Pieces:
    """`${name…}`: the value, None if unset, after the operator that stands between the offsets `rest`."""
    start, end = rest
    text = machine.source.text
    match = _OPERATOR.match(text, start, end) if start < end else None
    if match and match[0].lstrip(":") in ("-", "=", "+", "?") and match[0] != ":":
        return _defaulted(machine, name, pieces, match, end, at, quoted=quoted)
    value = machine.unset(name, at) if pieces is None else pieces
    if start >= end:
        return _expanded(value, at, quoted=quoted)
    change = operation(machine, match, end, at) if match else None
    if change is None:
        hole = Hole(f"the expansion {written(at)}", written(at), at, quoted, None, at)
        return (hole,)
    return changed(value, change, at, quoted=quoted)


def _expanded(value: Pieces, at: Range, *, quoted: bool) -> Pieces:
    return referred(value, at, quoted=quoted)


def changed(value: Pieces, change: Callable[[str], str | None], at: Range, *, quoted: bool) -> Pieces:
    """A value after a change to its text."""
    if not value:
        outcome = change("")
        return (Text(outcome, at, "computed", quoted, at),) if outcome else ()
    return mapped(value, change, at, f"the expansion {written(at)}", quoted=quoted)


def each(machine: Machine, words: Sequence[Word], start: int, end: int, at: Range) -> Sequence[Word]:
    """`${A[@]…}`: a slice of the elements, a default for none, or a change to every one."""
    if start >= end:
        return words
    match = _OPERATOR.match(machine.source.text, start, end)
    if match is None:
        return words
    operator = match[0]
    if operator == ":":
        return _slice(machine, words, match.end(), end, at)
    if operator.lstrip(":") in ("-", "="):
        return words or [_operand(machine, match.end(), end, at, quoted=False, via="shell")]
    if operator.lstrip(":") == "+":
        return [_operand(machine, match.end(), end, at, quoted=False, via="shell")] if words else []
    change = operation(machine, match, end, at)
    if change is None:
        return words
    return [word if isinstance(word, Fork) else changed(word, change, at, quoted=True) for word in words]


def _slice(machine: Machine, words: Sequence[Word], start: int, end: int, at: Range) -> Sequence[Word]:
    bounds = _bounds(machine, start, end, at)
    if bounds is None or any(isinstance(word, Fork) for word in words):
        return [(Hole(f"the elements {written(at)}", written(at), at, True),)]
    first, count = bounds
    if at.source.text[at.start + 2 : at.start + 3] in ("@", "*"):
        first = max(first - 1, 0)
    first = first if first >= 0 else max(len(words) + first, 0)
    return words[first:] if count is None else words[first : first + max(count, 0)]


def _bounds(machine: Machine, start: int, end: int, at: Range) -> tuple[int, int | None] | None:
    from vramlint.readers.shell.calculation import calculated

    text = machine.source.text
    cut = text.find(":", start, end)
    parts = [(start, end if cut < 0 else cut)] + ([] if cut < 0 else [(cut + 1, end)])
    numbers: list[int] = []
    for first, last in parts:
        number = known(calculated(machine, first, last, at, quoted_=True))
        if number is None:
            return None
        numbers.append(int(number))
    return numbers[0], numbers[1] if len(numbers) > 1 else None


def operation(machine: Machine, match: re.Match[str], end: int, at: Range) -> Callable[[str], str | None] | None:
    """The change that an operator makes to a text; None if its operand is unknown."""
    from vramlint.readers.shell.expansion import word

    operator, start = match[0], match.end()
    if operator == ":":
        bounds = _bounds(machine, start, end, at)
        return None if bounds is None else lambda text: _part(text, *bounds)
    if operator[0] in "^,~":
        return _CASES[operator]
    if operator[0] == "@":
        return {"U": str.upper, "L": str.lower, "Q": lambda text: f"'{text}'"}.get(operator[1])
    if operator[0] == "/":
        cut = _slash(machine.source.text, start, end)
        wanted = pattern(word(machine, start, cut))
        new = known(word(machine, min(cut + 1, end), end))
        if wanted is None or new is None:
            return None
        return _replacing(wanted, new, operator)
    wanted = pattern(word(machine, start, end))
    if wanted is None:
        return None
    cutting: Callable[..., str | None] = without_prefix if operator[0] == "#" else without_suffix
    return _cut(cutting, wanted, len(operator) > 1)


def _replacing(wanted: Pattern, new: str, form: str) -> Callable[[str], str | None]:
    return lambda text: replaced(text, wanted, new, form)


def _cut(cutting: Callable[..., str | None], wanted: Pattern, longest: bool) -> Callable[[str], str | None]:
    return lambda text: cutting(text, wanted, longest=longest)


_CASES: dict[str, Callable[[str], str]] = {
    "^^": str.upper,
    ",,": str.lower,
    "^": lambda text: text[:1].upper() + text[1:],
    ",": lambda text: text[:1].lower() + text[1:],
    "~~": str.swapcase,
    "~": lambda text: text[:1].swapcase() + text[1:],
}


def _part(text: str, first: int, count: int | None) -> str:
    first = first if first >= 0 else len(text) + first
    if first < 0:
        return ""
    if count is None:
        return text[first:]
    return text[first : first + count] if count >= 0 else text[first:count]


def _slash(text: str, start: int, end: int) -> int:
    """The `/` between pattern and replacement."""
    from vramlint.readers.shell import scan

    index = start
    while index < end and text[index] != "/":
        match text[index]:
            case "\\":
                index += 2
            case "'":
                index = scan.single(text, index)
            case '"':
                index = scan.double(text, index)
            case "$":
                index = scan.dollar(text, index)
            case _:
                index += 1
    return min(index, end)


def _defaulted(
    machine: Machine, name: str, pieces: Pieces | None, match: re.Match[str], end: int, at: Range, *, quoted: bool
) -> Pieces:
    """`:-`, `-`, `:=`, `=`, `:+`, `+`, `:?` and `?`."""
    colon, operator = len(match[0]) > 1, match[0][-1]
    given = name in machine.state.mentioned or name.isdigit()
    operand = _operand(
        machine, match.end(), end, at, quoted=quoted, via=machine.source.via(match.end()) if given else "environment"
    )
    options: list[tuple[Pieces, str]] = []
    for option, condition in [(None, "")] if pieces is None else variants(pieces):
        present = _present(option, colon=colon)
        if operator == "+":
            options.append((operand if present else (), condition))
        elif operator == "?":
            value = machine.unset(name, at) if option is None else option
            options.append((referred(value, at, quoted=quoted), condition))
        elif present and option is not None:
            options.append((referred(option, at, quoted=quoted), condition))
        else:
            options.append((operand, condition))
    value = options[0][0] if len(options) == 1 else chosen(options, at)
    if operator == "=" and not name.isdigit():
        machine.assign(name, assigned(value))
    return value


def _present(option: Pieces | None, *, colon: bool) -> bool:
    """Whether a value counts as set; what only arguments or the environment give counts as not given."""
    if option is None:
        return False
    if option and all(isinstance(piece, Hole) and piece.given == "" for piece in option):
        return False
    return known(option) != "" if colon else True


def _operand(machine: Machine, start: int, end: int, at: Range, *, quoted: bool, via: str) -> Pieces:
    from vramlint.readers.shell.expansion import word

    return tuple(_belonging(piece, at, quoted, via) for piece in word(machine, start, end))


def _belonging(piece: Piece, at: Range, quoted: bool, via: str) -> Piece:
    if isinstance(piece, Text) and piece.ref is None:
        return piece._replace(ref=at, quoted=quoted or piece.quoted, via=via, site=piece.range)
    if isinstance(piece, (Text, Hole)):
        return piece._replace(ref=at, quoted=quoted or piece.quoted, site=piece.ref or piece.range)
    return piece

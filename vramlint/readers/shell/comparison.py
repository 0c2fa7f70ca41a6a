"""Comparisons of words that may be unknown: `-z X`, `X == pattern`, `X -lt 3`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product

from vramlint.patterns import lazy
from vramlint.readers.shell import arithmetic
from vramlint.readers.shell.machine import NO, OPEN, YES, Machine, Outcome
from vramlint.readers.shell.patterns import matches, pattern
from vramlint.readers.shell.pieces import Hole, Piece, Pieces, Text, variants
from vramlint.readers.shell.state import Array

NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda left, right: left == right,
    "-ne": lambda left, right: left != right,
    "-lt": lambda left, right: left < right,
    "-le": lambda left, right: left <= right,
    "-gt": lambda left, right: left > right,
    "-ge": lambda left, right: left >= right,
}
_SIMPLE_EXPRESSION = lazy(r"[\w^$.|\[\]+*? :/@%,=-]{1,80}")


def unary(machine: Machine, operator: str, operand: Pieces) -> Outcome:
    """`-z X`, `-n X`, `-v X`; what is asked about files is open."""
    if operator == "-v":
        return _is_set(machine, operand)
    if operator not in ("-z", "-n"):
        return OPEN
    return decided([operand], lambda texts: (texts[0][1] == "") is (operator == "-z"), partly=True)


def _is_set(machine: Machine, operand: Pieces) -> Outcome:
    name = operand[0].text if len(operand) == 1 and isinstance(operand[0], Text) else None
    held = machine.value(name) if name else None
    if held is None or name is None:
        return NO if name in machine.state.mentioned else Outcome(None, usual=False)
    return YES if isinstance(held, Array) or not any(isinstance(piece, Hole) for piece in held) else OPEN


Known = tuple[Pieces, str]


def compare(machine: Machine, left: Pieces, operator: str, right: Pieces, *, glob: bool) -> Outcome:
    """A comparison of two words; `glob` where the right one is a pattern."""
    if operator in NUMBERS:
        return decided([left, right], lambda texts: _numbers(machine, operator, texts[0][1], texts[1][1]))
    if operator in ("<", ">"):
        return decided([left, right], lambda texts: (texts[0][1] < texts[1][1]) is (operator == "<"))
    if operator == "=~":
        return decided([left, right], lambda texts: _search(texts[1], texts[0][1]))
    if operator not in ("=", "==", "!="):
        return OPEN

    def equal(texts: Sequence[Known]) -> bool | None:
        if glob:
            wanted = pattern(texts[1][0])
            found = None if wanted is None else matches(wanted, texts[0][1])
        else:
            found = texts[0][1] == texts[1][1]
        return None if found is None else found is (operator != "!=")

    return decided([left, right], equal)


class _Values:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def value(self, name: str, index: str | None) -> str:
        held = self.machine.value(name)
        text = None if held is None or isinstance(held, Array) or index else _text(held)
        if text is None:
            raise arithmetic.Undecided(name)
        return text

    def assign(self, name: str, index: str | None, value: int) -> None:
        raise arithmetic.Undecided(name)


def _numbers(machine: Machine, operator: str, left: str, right: str) -> bool | None:
    try:
        numbers = [arithmetic.evaluate(text, _Values(machine)) for text in (left, right)]
    except arithmetic.Undecided:
        return None
    return NUMBERS[operator](*numbers)


def _search(expression: Known, text: str) -> bool | None:
    """Whether a regular expression fits; None for one that is too intricate to try."""
    pieces, wanted = expression
    source = "".join(re.escape(p.text) if p.quoted else p.text for p in pieces if isinstance(p, Text))
    if not _SIMPLE_EXPRESSION.fullmatch(wanted) or len(text) > 500 or wanted.count("*") + wanted.count("+") > 3:
        return None
    try:
        return re.search(source, text) is not None
    except re.error:
        return None


def _text(pieces: Pieces) -> str | None:
    texts = [piece.text for piece in pieces if isinstance(piece, Text)]
    return "".join(texts) if len(texts) == len(pieces) else None


def decided(
    words: Sequence[Pieces], test: Callable[[Sequence[Known]], bool | None], *, partly: bool = False
) -> Outcome:
    """The outcome of a test over all texts that its words may be; open unless all agree.

    `partly`: what is known of a word decides, as long as it is not empty.
    """
    found: set[bool | None] = set()
    usual: set[bool | None] = set()
    for chosen in product(*([option for option, _ in variants(operand)] for operand in words)):
        status = _tried([_certain(option) for option in chosen] if partly else chosen, test)
        found.add(status)
        if status is None:
            assumed = [tuple(_not_given(piece) for piece in option) for option in chosen]
            usual.add(_tried(assumed, test))
        else:
            usual.add(status)
    if len(found) == 1 and None not in found:
        return YES if True in found else NO
    return Outcome(None, usual=next(iter(usual)) if len(usual) == 1 else None)


def _certain(pieces: Pieces) -> Pieces:
    """The known part of a word, if that is not empty."""
    part = tuple(piece for piece in pieces if isinstance(piece, Text) and piece.text)
    return part or pieces


def _tried(chosen: Sequence[Pieces], test: Callable[[Sequence[Known]], bool | None]) -> bool | None:
    texts: list[Known] = []
    for pieces in chosen:
        text = _text(pieces)
        if text is None:
            return None
        texts.append((pieces, text))
    return test(texts)


def _not_given(piece: Piece) -> Piece:
    """What a piece is when no arguments and no variables of the environment are given."""
    if isinstance(piece, Hole) and piece.given is not None:
        return Text(piece.given, piece.range, "environment", True, piece.ref)
    return piece

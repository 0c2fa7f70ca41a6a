"""Tests: `[ … ]`, `test`, `[[ … ]]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product

from vramlint.readers.shell import arithmetic, scan
from vramlint.readers.shell.expansion import word
from vramlint.readers.shell.machine import NO, OPEN, YES, Machine, Outcome
from vramlint.readers.shell.patterns import matches, pattern
from vramlint.readers.shell.pieces import Hole, Piece, Pieces, Text, variants
from vramlint.readers.shell.state import Array

_FILES = frozenset(f"-{letter}" for letter in "abcdefghkprstuwxGLNOS")
_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda left, right: left == right,
    "-ne": lambda left, right: left != right,
    "-lt": lambda left, right: left < right,
    "-le": lambda left, right: left <= right,
    "-gt": lambda left, right: left > right,
    "-ge": lambda left, right: left >= right,
}
_EQUAL = ("=", "==")
_BINARY = frozenset({*_NUMBERS, *_EQUAL, "!=", "<", ">", "=~", "-nt", "-ot", "-ef"})
_DEEPEST = 40
_SIMPLE_EXPRESSION = re.compile(r"[\w^$.|\[\]+*? :/@%,=-]{1,80}")


def both(left: Outcome, right: Outcome) -> Outcome:
    """`left && right`."""
    return Outcome(_and(left.status, right.status), usual=_and(_usual(left), _usual(right)))


def either(left: Outcome, right: Outcome) -> Outcome:
    """`left || right`."""
    return opposite(both(opposite(left), opposite(right)))


def opposite(outcome: Outcome) -> Outcome:
    """`! outcome`."""
    status = None if outcome.status is None else not outcome.status
    return Outcome(status, usual=None if outcome.usual is None else not outcome.usual)


def _usual(outcome: Outcome) -> bool | None:
    return outcome.usual if outcome.status is None else outcome.status


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def bracket(machine: Machine, words: Sequence[Pieces]) -> Outcome:
    """`[ … ]` over its words, without the brackets."""
    return _Brackets(machine, words).result()


class _Brackets:
    def __init__(self, machine: Machine, words: Sequence[Pieces]) -> None:
        self.machine, self.words, self.index, self.depth = machine, words, 0, 0

    def result(self) -> Outcome:
        if not self.words:
            return NO
        outcome = self.alternatives()
        return outcome if self.index >= len(self.words) else OPEN

    def at(self, index: int) -> str | None:
        """An operator, None where a word is no plain text."""
        if index >= len(self.words):
            return None
        pieces = self.words[index]
        return pieces[0].text if len(pieces) == 1 and isinstance(pieces[0], Text) else None

    def alternatives(self) -> Outcome:
        outcome = self.conjunction()
        while self.at(self.index) == "-o":
            self.index += 1
            outcome = either(outcome, self.conjunction())
        return outcome

    def conjunction(self) -> Outcome:
        outcome = self.factor()
        while self.at(self.index) == "-a" and self.index + 1 < len(self.words):
            self.index += 1
            outcome = both(outcome, self.factor())
        return outcome

    def factor(self) -> Outcome:
        self.depth += 1
        operator = self.at(self.index)
        left = len(self.words) - self.index
        if self.depth > _DEEPEST or left <= 0:
            return OPEN
        if left >= 3 and self.at(self.index + 1) in _BINARY:
            start = self.index
            self.index += 3
            wanted = self.at(start + 1) or ""
            return compare(self.machine, self.words[start], wanted, self.words[start + 2], glob=False)
        if operator == "!" and left > 1:
            self.index += 1
            return opposite(self.factor())
        if operator == "(" and left > 2:
            self.index += 1
            outcome = self.alternatives()
            self.index += 1
            return outcome
        if operator is not None and left >= 2 and re.fullmatch(r"-[a-zA-Z]", operator) and operator not in ("-a", "-o"):
            self.index += 2
            return unary(self.machine, operator, self.words[self.index - 1])
        self.index += 1
        return unary(self.machine, "-n", self.words[self.index - 1])


def double(machine: Machine, start: int, end: int) -> Outcome:
    """`[[ … ]]`, of which the content lies between two offsets."""
    return _Double(machine, scan.tokens(machine.source.text, start, end)).result()


class _Double:
    def __init__(self, machine: Machine, spans: list[tuple[int, int]]) -> None:
        self.machine, self.spans, self.index, self.depth = machine, spans, 0, 0

    def result(self) -> Outcome:
        outcome = self.alternatives()
        return outcome if self.index >= len(self.spans) else OPEN

    def at(self, index: int) -> str:
        return self.machine.source.text[slice(*self.spans[index])] if index < len(self.spans) else ""

    def alternatives(self) -> Outcome:
        outcome = self.conjunction()
        while self.at(self.index) == "||":
            self.index += 1
            outcome = either(outcome, self.conjunction())
        return outcome

    def conjunction(self) -> Outcome:
        outcome = self.factor()
        while self.at(self.index) == "&&":
            self.index += 1
            outcome = both(outcome, self.factor())
        return outcome

    def factor(self) -> Outcome:
        self.depth += 1
        operator = self.at(self.index)
        if self.depth > _DEEPEST or not operator:
            self.index += 1
            return OPEN
        following = self.at(self.index + 1)
        if operator == "!":
            self.index += 1
            return opposite(self.factor())
        if operator == "(":
            self.index += 1
            outcome = self.alternatives()
            self.index += 1
            return outcome
        if following in _BINARY and self.index + 2 < len(self.spans):
            first = self.index
            self.index += 2
            right = self.expression() if following == "=~" else self.take()
            return compare(self.machine, self.word(first), following, right, glob=True)
        if re.fullmatch(r"-[a-zA-Z]", operator) and following not in ("", "&&", "||", ")"):
            self.index += 2
            return unary(self.machine, operator, self.word(self.index - 1))
        self.index += 1
        return unary(self.machine, "-n", self.word(self.index - 1))

    def take(self) -> Pieces:
        self.index += 1
        return self.word(self.index - 1)

    def expression(self) -> Pieces:
        """A regular expression: parentheses and bars belong to it, so that it reaches up to the next blank."""
        start, last = self.spans[self.index]
        self.index += 1
        while self.index < len(self.spans) and self.spans[self.index][0] == last:
            last = self.spans[self.index][1]
            self.index += 1
        return word(self.machine, start, last)

    def word(self, index: int) -> Pieces:
        return word(self.machine, *self.spans[index])


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
    if operator in _NUMBERS:
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
    return _NUMBERS[operator](*numbers)


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

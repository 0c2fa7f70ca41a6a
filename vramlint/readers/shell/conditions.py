"""Tests: `[ … ]`, `test`, `[[ … ]]`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vramlint.readers.shell import cutting
from vramlint.readers.shell.comparison import NUMBERS, compare, unary
from vramlint.readers.shell.expansion import word
from vramlint.readers.shell.machine import NO, OPEN, Machine, Outcome
from vramlint.readers.shell.pieces import Pieces, Text

_FILES = frozenset(f"-{letter}" for letter in "abcdefghkprstuwxGLNOS")
_EQUAL = ("=", "==")
_BINARY = frozenset({*NUMBERS, *_EQUAL, "!=", "<", ">", "=~", "-nt", "-ot", "-ef"})
_DEEPEST = 40


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
    return _Double(machine, cutting.tokens(machine.source.text, start, end)).result()


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

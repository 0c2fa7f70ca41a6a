"""Arithmetic of bash: 64-bit integers, C operators, assignments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from vramlint.patterns import lazy

_TOKEN = lazy(
    r"\s*(?:(\d+#[0-9A-Za-z@_]+|0[xX][0-9A-Fa-f]+|\d+)|([A-Za-z_]\w*)|(\*\*|<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|"
    r"[-+*/%&|^]=|[-+*/%<>=!~&|^?:,()\[\]]))",
    re.ASCII,
)
_LEVELS = {
    "*": 12, "/": 12, "%": 12, "+": 11, "-": 11, "<<": 10, ">>": 10, "<": 9, ">": 9, "<=": 9, ">=": 9,
    "==": 8, "!=": 8, "&": 7, "^": 6, "|": 5, "&&": 4, "||": 3,
}  # fmt: skip
_DEEPEST = 60


class Undecided(Exception):  # noqa: N818 (an outcome, not an error)
    """The expression has no value that is known here; the message says why."""


class Names(Protocol):
    """The variables of an expression."""

    def value(self, name: str, index: str | None) -> str:
        """The text of a variable or of an array's element.

        Raises:
            Undecided: it is unknown.
        """

    def assign(self, name: str, index: str | None, value: int) -> None:
        """Give the variable a new value."""


def wrapped(number: int) -> int:
    """The number as a signed 64-bit integer holds it."""
    return (number + 2**63) % 2**64 - 2**63


def evaluate(text: str, names: Names, depth: int = 0) -> int:
    """The value of an expression; of an empty one 0.

    Raises:
        Undecided: it is malformed, divides by zero, or depends on something unknown.
    """
    if depth > 8:
        raise Undecided("a variable that refers to itself")
    return _Expression(text, names, depth).result()


class _Expression:
    def __init__(self, text: str, names: Names, depth: int) -> None:
        self.text, self.names, self.depth = text, names, depth
        self.tokens: list[tuple[str, str, int]] = []
        index = 0
        end = len(text.rstrip())
        while index < end:
            match = _TOKEN.match(text, index)
            if match is None:
                raise Undecided(f"the arithmetic of {text.strip()}")
            kind = "number" if match[1] else "name" if match[2] else "operator"
            self.tokens.append((kind, match[match.lastindex or 0], match.start(match.lastindex or 0)))
            index = match.end()
        self.index = 0
        self.nesting = 0
        self.skipping = 0

    def result(self) -> int:
        if not self.tokens:
            return 0
        value = self.comma()
        if self.index < len(self.tokens):
            self.fail()
        return value

    def fail(self) -> None:
        raise Undecided(f"the arithmetic of {self.text.strip()}")

    def peek(self) -> str:
        return self.tokens[self.index][1] if self.index < len(self.tokens) else ""

    def accept(self, operator: str) -> bool:
        if self.peek() == operator:
            self.index += 1
            return True
        return False

    def expect(self, operator: str) -> None:
        if not self.accept(operator):
            self.fail()

    def comma(self) -> int:
        value = self.conditional()
        while self.accept(","):
            value = self.conditional()
        return value

    def conditional(self) -> int:
        self.nesting += 1
        if self.nesting > _DEEPEST:
            self.fail()
        value = self.binary(3)
        if self.accept("?"):
            first = self.quiet(self.comma, run=value != 0)
            self.expect(":")
            second = self.quiet(self.conditional, run=value == 0)
            value = first if value else second
        self.nesting -= 1
        return value

    def quiet(self, part: Callable[[], int], *, run: bool) -> int:
        """The value of a part, without its effects where it is not to be run."""
        self.skipping += not run
        value = part()
        self.skipping -= not run
        return value

    def binary(self, level: int) -> int:
        value = self.power()
        while (operator := self.peek()) in _LEVELS and _LEVELS[operator] >= level:
            self.index += 1
            following = _LEVELS[operator] + 1
            if operator == "&&":
                right = self.quiet(lambda: self.binary(5), run=value != 0)
                value = int(bool(value) and bool(right))
            elif operator == "||":
                right = self.quiet(lambda: self.binary(4), run=value == 0)
                value = int(bool(value) or bool(right))
            else:
                value = self.apply(operator, value, self.binary(following))
        return value

    def power(self) -> int:
        value = self.unary()
        if self.accept("**"):
            exponent = self.power()
            if exponent < 0:
                self.fail()
            return wrapped(pow(value, exponent, 2**64))
        return value

    def unary(self) -> int:
        self.nesting += 1
        if self.nesting > _DEEPEST:
            self.fail()
        operator = self.peek()
        if operator in ("-", "+", "!", "~"):
            self.index += 1
            value = self.unary()
            value = {"-": -value, "+": value, "!": int(not value), "~": ~value}[operator]
        elif operator in ("++", "--"):
            self.index += 1
            name, index = self.reference()
            value = self.store(name, index, self.read(name, index) + (1 if operator == "++" else -1))
        else:
            value = self.primary()
        self.nesting -= 1
        return wrapped(value)

    def primary(self) -> int:
        if self.accept("("):
            value = self.comma()
            self.expect(")")
            return value
        if self.index >= len(self.tokens):
            self.fail()
        kind, text, _ = self.tokens[self.index]
        if kind == "number":
            self.index += 1
            return _number(text)
        if kind != "name":
            self.fail()
        name, index = self.reference()
        following = self.peek()
        if following in ("++", "--"):
            self.index += 1
            value = self.read(name, index)
            self.store(name, index, value + (1 if following == "++" else -1))
            return value
        if following == "=":
            self.index += 1
            return self.store(name, index, self.conditional())
        if following.endswith("=") and following[:-1] in ("*", "/", "%", "+", "-", "<<", ">>", "&", "^", "|"):
            self.index += 1
            value = self.read(name, index)
            return self.store(name, index, self.apply(following[:-1], value, self.conditional()))
        return self.read(name, index)

    def reference(self) -> tuple[str, str | None]:
        if self.index >= len(self.tokens) or self.tokens[self.index][0] != "name":
            self.fail()
        name = self.tokens[self.index][1]
        self.index += 1
        if self.peek() != "[":
            return name, None
        start = self.tokens[self.index][2] + 1
        self.index += 1
        value = self.comma()
        end = self.tokens[self.index][2] if self.index < len(self.tokens) else len(self.text)
        self.expect("]")
        # an associative array is indexed by the text itself
        return name, self.text[start:end] if self.text[start:end].strip().isidentifier() else str(value)

    def read(self, name: str, index: str | None) -> int:
        if self.skipping:
            return 1
        text = self.names.value(name, index).strip()
        return _number(text) if text.isascii() and text.isdigit() else evaluate(text, self.names, self.depth + 1)

    def store(self, name: str, index: str | None, value: int) -> int:
        value = wrapped(value)
        if not self.skipping:
            self.names.assign(name, index, value)
        return value

    def apply(self, operator: str, left: int, right: int) -> int:
        if operator in ("/", "%"):
            if not right:
                if self.skipping:
                    return 0
                raise Undecided("a division by zero")
            quotient = abs(left) // abs(right) * (1 if (left < 0) is (right < 0) else -1)
            return wrapped(quotient if operator == "/" else left - quotient * right)
        return wrapped(_OPERATIONS[operator](left, right))


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "*": lambda left, right: left * right,
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "<<": lambda left, right: left << (right & 63),
    ">>": lambda left, right: left >> (right & 63),
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "&": lambda left, right: left & right,
    "^": lambda left, right: left ^ right,
    "|": lambda left, right: left | right,
}


def _number(text: str) -> int:
    if len(text) > 40:
        raise Undecided("a number that is too long")
    try:
        if "#" in text:
            base, digits = text.split("#", 1)
            return wrapped(int(digits, int(base)))
        if text[:2].lower() == "0x":
            return wrapped(int(text, 16))
        return wrapped(int(text, 8) if text.startswith("0") and text != "0" else int(text))
    except ValueError:
        raise Undecided(f"the number {text}") from None

"""The statements of a script. Offsets count the characters of the text that they stand in."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from vramlint.readers.shell.cutting import Simple


class Block(Struct, frozen=True):
    """Statements one after the other."""

    statements: tuple[Statement, ...]
    start: int
    end: int


class Subshell(Struct, frozen=True):
    """`( … )`."""

    body: Block


class Pipeline(Struct, frozen=True):
    """`a | b`."""

    parts: tuple[Statement, ...]
    start: int
    end: int


class Chain(Struct, frozen=True):
    """`a && b`, `a || b`."""

    left: Statement
    operator: str
    right: Statement
    start: int
    end: int


class Negation(Struct, frozen=True):
    """`! a`."""

    body: Statement
    start: int
    end: int


class Conditional(Struct, frozen=True):
    """`if … elif … else … fi`: tests with their blocks; the last test is None for `else`."""

    branches: tuple[tuple[Block | None, Block], ...]
    start: int
    end: int


class Loop(Struct, frozen=True):
    """`while` and `until`."""

    test: Block
    body: Block
    until: bool
    start: int
    end: int


class Each(Struct, frozen=True):
    """`for X in …`; `words` None for `for X`, which goes over the arguments."""

    name: str
    words: tuple[tuple[int, int], ...] | None
    body: Block
    start: int
    end: int


class Counting(Struct, frozen=True):
    """`for ((a; b; c))`: spans of the three expressions."""

    parts: tuple[tuple[int, int], ...]
    body: Block
    start: int
    end: int


class Case(Struct, frozen=True):
    """`case word in pattern) …`: per item the patterns, the block and how it ends (`;;`, `;&`, `;;&`)."""

    word: tuple[int, int]
    items: tuple[tuple[tuple[tuple[int, int], ...], Block, str], ...]
    start: int
    end: int


class Definition(Struct, frozen=True):
    """A function."""

    name: str
    body: Statement
    start: int
    end: int


class Test(NamedTuple):
    """What stands in `[[ … ]]`."""

    start: int
    end: int


class Arithmetic(Struct, frozen=True):
    """What stands in `(( … ))`."""

    start: int
    end: int


class Redirected(Struct, frozen=True):
    """A compound statement and the command-like rest that holds its redirections."""

    body: Statement
    redirections: Simple


Statement = (
    Simple
    | Block
    | Subshell
    | Pipeline
    | Chain
    | Negation
    | Conditional
    | Loop
    | Each
    | Counting
    | Case
    | Definition
    | Test
    | Arithmetic
    | Redirected
)


def extent(statement: Statement) -> tuple[int, int]:
    """Where a statement starts and ends."""
    match statement:
        case Subshell(body):
            return body.start, body.end
        case Redirected(body, redirections):
            return extent(body)[0], redirections.end
        case _:
            return statement.start, statement.end

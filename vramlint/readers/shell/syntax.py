"""The statements of a script. Offsets count the characters of the text that they stand in."""

from __future__ import annotations

from typing import NamedTuple

from vramlint.readers.shell.cutting import Simple


class Block(NamedTuple):
    """Statements one after the other."""

    statements: tuple[Statement, ...]
    start: int
    end: int


class Subshell(NamedTuple):
    """`( … )`."""

    body: Block


class Pipeline(NamedTuple):
    """`a | b`."""

    parts: tuple[Statement, ...]
    start: int
    end: int


class Chain(NamedTuple):
    """`a && b`, `a || b`."""

    left: Statement
    operator: str
    right: Statement
    start: int
    end: int


class Negation(NamedTuple):
    """`! a`."""

    body: Statement
    start: int
    end: int


class Conditional(NamedTuple):
    """`if … elif … else … fi`: tests with their blocks; the last test is None for `else`."""

    branches: tuple[tuple[Block | None, Block], ...]
    start: int
    end: int


class Loop(NamedTuple):
    """`while` and `until`."""

    test: Block
    body: Block
    until: bool
    start: int
    end: int


class Each(NamedTuple):
    """`for X in …`; `words` None for `for X`, which goes over the arguments."""

    name: str
    words: tuple[tuple[int, int], ...] | None
    body: Block
    start: int
    end: int


class Counting(NamedTuple):
    """`for ((a; b; c))`: spans of the three expressions."""

    parts: tuple[tuple[int, int], ...]
    body: Block
    start: int
    end: int


class Case(NamedTuple):
    """`case word in pattern) …`: per item the patterns, the block and how it ends (`;;`, `;&`, `;;&`)."""

    word: tuple[int, int]
    items: tuple[tuple[tuple[tuple[int, int], ...], Block, str], ...]
    start: int
    end: int


class Definition(NamedTuple):
    """A function."""

    name: str
    body: Statement
    start: int
    end: int


class Test(NamedTuple):
    """What stands in `[[ … ]]`."""

    start: int
    end: int


class Arithmetic(NamedTuple):
    """What stands in `(( … ))`."""

    start: int
    end: int


class Redirected(NamedTuple):
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

"""The abstract shell: its state, what it has seen so far, and how far it goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct, field

from vramlint.patterns import lazy
from vramlint.readers.shell.parsing import Parsed, parse
from vramlint.readers.shell.pieces import Hole, Pieces, Text
from vramlint.readers.shell.source import Composed, Range, Source
from vramlint.readers.shell.state import Held, State
from vramlint.text import Document, Place
from vramlint.values import Command, Value

MOST_STEPS = 5_000
"""Simple commands that one script may take; a longer one is not followed to its end."""
MOST_LOOP_COMMANDS = 64
DEEPEST = 24
"""Functions, sourced files and evaluated strings inside of each other."""


class Outcome(Struct, frozen=True):
    """Whether a command succeeds: None where that is open."""

    status: bool | None
    likely: bool = False
    """An ordinary command, of which success is expected."""
    usual: bool | None = None
    """Of a test: what it is when no arguments and no variables of the environment are given."""


YES, NO, OPEN, LIKELY = Outcome(True), Outcome(False), Outcome(None), Outcome(None, likely=True)


class Draft(NamedTuple):
    """Text that goes to a file."""

    name: Pieces
    pieces: Pieces | None
    """None where only run time knows the text."""
    range: Range
    after: int = 0
    """How many commands come before it."""


class Machine(Struct):
    """An abstract interpreter of one script."""

    name: str
    source: Source
    sources: Callable[[str], Document | None]
    state: State = field(default_factory=State)
    commands: list[Command] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    conditions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    prefix: tuple[tuple[Value, Place], ...] = ()
    """Words in front of every command: `srun -N 2` of `srun -N 2 bash -c '…'`."""
    output: list[Pieces] | None = None
    """What is printed, where a command substitution or a pipe takes it."""
    sure: int = 0
    """How many undecided conditions stood around the substitution that takes the output."""
    substituting: bool = False
    """Inside of `$( … )`, where commands ask something and do not train."""
    input: Pieces | None = None
    own: dict[str, str] | None = None
    """The variables that the script seems to set anywhere, and how, once asked for."""
    locals: list[dict[str, Held | None]] = field(default_factory=list)
    folders: list[Pieces | None] = field(default_factory=list)
    """What `pushd` has put aside."""
    unread: list[str] = field(default_factory=list)
    """Files that the script sources and that are not there to be read."""
    steps: int = 0
    noted: int = 0
    """How many commands there are, housekeeping (`mkdir`) not counted."""
    turns: int = 0
    """How many commands loops have given so far."""
    loop: int | None = None
    """How many commands had been noted when the outermost loop started that is running now."""
    depth: int = 0
    parsed: dict[tuple[int, int, int], Parsed] = field(default_factory=dict)
    kept: list[Source] = field(default_factory=list)
    """The sources of `parsed`: they are told apart by identity."""

    def step(self) -> bool:
        """Count one command; False when there have been too many."""
        self.steps += 1
        return self.steps <= MOST_STEPS

    def used(self) -> int:
        """How many commands loops have given, the one that is running included."""
        return self.turns + (0 if self.loop is None else self.noted - self.loop)

    def many(self) -> bool:
        """Whether a loop has given so many commands that no further turn is unrolled."""
        return self.used() - self.turns >= MOST_LOOP_COMMANDS or self.used() >= MOST_LOOP_COMMANDS * 4

    def parse(self, source: Source, start: int, end: int) -> Parsed:
        """The statements between two offsets of a source."""
        key = (id(source), start, end)
        if key not in self.parsed:
            self.kept.append(source)
            self.parsed[key] = parse(source.text, start, end)
        return self.parsed[key]

    def here(self, start: int, end: int) -> Range:
        """A range of the source at hand."""
        return Range(self.source, start, end)

    def value(self, name: str) -> Held | None:
        """A variable as it is, None if the script has not set it."""
        return self.state.variables.get(name)

    def assign(self, name: str, held: Held) -> None:
        """Set a variable."""
        self.state.variables[name] = held
        self.state.mentioned.add(name)

    def unset(self, name: str, at: Range) -> Pieces:
        """What a variable is that the script has not set: empty if it sets it elsewhere, else the environment's."""
        if name in self.state.mentioned or name.isdigit():
            return ()
        if self.own is None:
            text = self.source.text
            self.own = dict.fromkeys(assigned_names(text), "set in a comment only")
            self.own.update(dict.fromkeys(assigned_names(_COMMENT.sub("", text)), "set too late"))
        reason = f"environment variable {name}, {self.own.get(name, 'never set')} in {self.name}"
        if self.unread:
            reason += f" ({self.unread[-1]}, which it sources, is not read)"
        return (Hole(reason, written_name(at, name), at, True, ""),)

    def skip(self, start: int, end: int) -> None:
        """Take note of the variables that a stretch sets which does not run."""
        self.state.mentioned.update(assigned_names(self.source.text[start:end]))


_COMMENT = lazy(r"(?m)^[ \t]*#.*$")
_ASSIGNED = lazy(
    r"(?:^|(?<=[\s;&|({]))([A-Za-z_]\w*)(?:\[[^\]\n]*\])?\+?=|\b(?:for|read(?:[ \t]+-\w+)*)[ \t]+([A-Za-z_]\w*)"
    r"|\(\([ \t]*([A-Za-z_]\w*)[ \t]*(?:[-+*/]?=(?!=)|\+\+|--)",
    re.ASCII,
)


def assigned_names(text: str) -> set[str]:
    """The variables that a stretch of a script seems to set."""
    return {name for match in _ASSIGNED.finditer(text) for name in match.groups() if name}


def written_name(at: Range, name: str) -> str:
    """The reference as written, or `$NAME` where it is not one."""
    text = at.source.text[at.start : at.end]
    return text if text.startswith("$") and "\n" not in text else f"${name}"


def composed(pieces: Pieces) -> Composed:
    """A string that is read as commands, with the places of its pieces. It holds known pieces only."""
    offsets: list[int] = []
    ranges: list[Range] = []
    texts: list[str] = []
    length = 0
    roads: list[str] = []
    for piece in pieces:
        if isinstance(piece, Text):
            offsets.append(length)
            ranges.append(piece.range)
            texts.append(piece.text)
            length += len(piece.text)
            roads.append(piece.via)
    document = ranges[0].source.document if ranges else Document.of("", "")
    return Composed(document, "".join(texts), offsets, ranges, roads)

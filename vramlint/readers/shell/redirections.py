"""Where a command's input comes from and its output goes."""

from __future__ import annotations

from vramlint.readers.shell import expansion
from vramlint.readers.shell.cutting import Heredoc, Simple
from vramlint.readers.shell.machine import Machine
from vramlint.readers.shell.pieces import Hole, Piece, Pieces, Text, written


def given(machine: Machine, command: Simple) -> Pieces | None:
    """What a command reads from its standard input, where the script itself says it."""
    if command.heredocs:
        return body(machine, command.heredocs[-1])
    for item in reversed(command.redirections):
        if item.operator == "<<<":
            pieces = expansion.word(machine, item.start, item.end)
            at = machine.here(item.end, item.end)
            return (*pieces, Text("\n", at, machine.source.via(0), True))
        if item.operator == "<":
            at = machine.here(item.start, item.end)
            return (Hole(f"content of {written(at)}", written(at), at, True),)
    return None


def body(machine: Machine, heredoc: Heredoc) -> Pieces:
    """The text of a here-document, expanded unless its delimiter is quoted."""
    text, source = machine.source.text, machine.source
    if not heredoc.tabs:
        return _part(machine, heredoc.start, heredoc.end, heredoc.literal)
    pieces: list[Piece] = []
    start = heredoc.start
    while start < heredoc.end:
        end = text.find("\n", start, heredoc.end)
        end = heredoc.end if end < 0 else end + 1
        while start < end and text[start] == "\t":
            start += 1
        pieces.extend(_part(machine, start, end, heredoc.literal))
        start = end
    return tuple(pieces) or (Text("", machine.here(heredoc.start, heredoc.start), source.via(0), True),)


def _part(machine: Machine, start: int, end: int, literal: bool) -> Pieces:
    if literal or start >= end:
        return (Text(machine.source.text[start:end], machine.here(start, end), machine.source.via(start), True),)
    return expansion.quoted(machine, start, end, heredoc=True)


def target(machine: Machine, command: Simple) -> tuple[Pieces, bool] | None:
    """The file that the standard output goes to, and whether it is appended to."""
    for item in reversed(command.redirections):
        if item.operator in (">", ">>", ">|", "&>", "&>>") and item.descriptor in ("", "1"):
            return expansion.word(machine, item.start, item.end), item.operator.endswith(">>")
    return None

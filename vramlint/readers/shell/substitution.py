"""Command substitution: what the commands between `$(` and `)` print."""

from __future__ import annotations

from vramlint.patterns import lazy
from vramlint.readers.shell.machine import DEEPEST, Machine
from vramlint.readers.shell.pieces import Choice, Hole, Piece, Pieces, Text, written
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.syntax import Statement

_COUNTED = lazy(r"nvidia-smi|rocm-smi|device_count|/proc/(?:cpuinfo|meminfo)|\b(?:nproc|lscpu|free|lspci)\b")


def result(machine: Machine, start: int, end: int, at: Range, *, quoted: bool) -> Pieces:
    """The output of the commands between two offsets, without the newlines at its end."""
    if machine.depth >= DEEPEST:
        return (unknown(at, quoted),)
    block = machine.parse(machine.source, start, end).block
    before, machine.substituting = machine.substituting, True
    pieces = captured(machine, block)
    machine.substituting = before
    if any(isinstance(piece, Hole) and not piece.reason for piece in pieces):
        return (unknown(at, quoted),)
    return tuple(_printed(piece, at, quoted) for piece in _stripped(pieces))


def unknown(at: Range, quoted: bool) -> Hole:
    """The output of commands that only the machine can run."""
    text = written(at)
    if _COUNTED.search(text):
        inside = text[2:-1] if text.startswith("$(") else text[1:-1]
        return Hole(f"counted on the machine: {inside.strip()}", text, at, quoted, None, at)
    return Hole(f"result of {text}", text, at, quoted, None, at)


def captured(machine: Machine, statement: Statement, given: Pieces | None = None) -> Pieces:
    """What a statement prints in a subshell that reads `given`; a hole without a reason where that is unknown."""
    from vramlint.readers.shell.statements import run

    state, output, sure, before = machine.state, machine.output, machine.sure, machine.input
    machine.state = state.copy()
    machine.output, machine.sure, machine.input = [], len(machine.conditions), given
    machine.depth += 1
    run(machine, statement)
    machine.depth -= 1
    pieces = tuple(piece for part in machine.output for piece in part)
    machine.state, machine.output, machine.sure, machine.input = state, output, sure, before
    return pieces


def emit(machine: Machine, pieces: Pieces | None, at: Range) -> None:
    """Print pieces where something takes the output; None for what is not known."""
    if machine.output is None:
        return
    if pieces is None or len(machine.conditions) > machine.sure:
        pieces = (Hole("", written(at), at, True),)
    machine.output.append(pieces)


def _stripped(pieces: Pieces) -> Pieces:
    found = list(pieces)
    while found:
        last = found[-1]
        if not isinstance(last, Text):
            break
        text = last.text.rstrip("\n")
        if text:
            found[-1] = last.cut(0, len(text)) if text != last.text else last
            break
        found.pop()
    return tuple(found)


def _printed(piece: Piece, at: Range, quoted: bool) -> Piece:
    match piece:
        case Text() | Hole():
            return piece._replace(quoted=quoted, ref=at, site=piece.ref or piece.site or piece.range)
        case Choice():
            options = tuple((tuple(_printed(p, at, quoted) for p in option), text) for option, text in piece.options)
            return Choice(options, at, piece.site)
        case _:
            return piece

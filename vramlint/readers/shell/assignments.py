"""Assignments: `X=1`, `X+=b`, `A=(…)`, `A[2]=c`."""

from __future__ import annotations

import re

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.readers.shell import calculation, expansion, parameters, scan
from vramlint.readers.shell.machine import Machine
from vramlint.readers.shell.pieces import Hole, Pieces, Text, assigned, known
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Array, Held

ASSIGNMENT = lazy(r"([A-Za-z_]\w*)(?:\[([^\]\n]*)\])?(\+?)=", re.ASCII)


class Assignment(Struct, frozen=True):
    """`NAME[index]+=value`, by offset."""

    name: str
    subscript: tuple[int, int] | None
    append: bool
    start: int
    end: int


def assignment(text: str, start: int, end: int) -> Assignment | None:
    """The assignment that a word is, if it is one."""
    match = ASSIGNMENT.match(text, start, end)
    if match is None:
        return None
    index = match.span(2) if match[2] is not None else None
    return Assignment(match[1], index, match[3] == "+", match.end(), end)


def assign(machine: Machine, item: Assignment, *, associative: bool = False) -> None:
    """Do an assignment."""
    text = machine.source.text
    before = machine.value(item.name)
    at = machine.here(item.start, item.end)
    if text.startswith("(", item.start) and item.subscript is None:
        associative = associative or (isinstance(before, Array) and before.associative)
        close = max(scan.parentheses(text, item.start) - 1, item.start + 1)
        new = expansion.array(machine, item.start + 1, min(close, item.end), associative=associative)
        machine.assign(item.name, _extended(before, new) if item.append else new)
        return
    pieces = assigned(expansion.word(machine, item.start, item.end))
    if item.name in machine.state.integers:
        pieces = _integer(machine, item, pieces, before, at)
    elif item.append and not isinstance(before, Array) and item.subscript is None:
        pieces = assigned((*_before(machine, item, before, at), *pieces))
    if item.subscript is None and not isinstance(before, Array):
        machine.assign(item.name, pieces)
        return
    index = _subscript(machine, item, before, at)
    if index is None:
        reason = f"an element of {item.name} whose index is not known"
        machine.assign(item.name, (Hole(reason, f"${item.name}", at, True),))
        return
    if item.append:
        pieces = assigned((*(parameters.element(machine, item.name, index, at) or ()), *pieces))
    parameters.assign_element(machine, item.name, index, pieces)


def _before(machine: Machine, item: Assignment, before: Held | None, at: Range) -> Pieces:
    if before is None:
        found = parameters.lookup(machine, item.name, at)
        return machine.unset(item.name, at) if found is None else found
    return () if isinstance(before, Array) else before


def _integer(machine: Machine, item: Assignment, pieces: Pieces, before: Held | None, at: Range) -> Pieces:
    """What an integer variable takes from an assignment: the value of the expression."""
    value = assigned(calculation.calculated(machine, item.start, item.end, at, quoted_=True))
    if not item.append:
        return value
    old, new = known(_before(machine, item, before, at)), known(value)
    if old is None or new is None or not old.lstrip("-").isdigit():
        return (Hole(f"value of {item.name}", f"${item.name}", at, True),)
    return (Text(str(int(old) + int(new)), at, "computed", True, None, at),)


def _subscript(machine: Machine, item: Assignment, before: Held | None, at: Range) -> str | None:
    if item.subscript is None:
        return "0"
    if isinstance(before, Array) and before.associative:
        return known(expansion.word(machine, *item.subscript))
    return known(calculation.calculated(machine, *item.subscript, at, quoted_=True))


def _extended(before: Held | None, new: Array) -> Held:
    """`A+=(…)`."""
    if before is None:
        return new
    if not isinstance(before, Array):
        return Array((before, *new.elements)) if before else new
    if before.keys is None and new.keys is None:
        return Array((*before.elements, *new.elements))
    if not before.associative:
        keys = before.keys or tuple(str(number) for number in range(len(before.elements)))
        more = tuple(str(len(keys) + number) for number in range(len(new.elements)))
        return Array((*before.elements, *new.elements), (*keys, *more))
    both = dict(zip(before.keys or (), before.elements, strict=False))
    both.update(zip(new.keys or (), new.elements, strict=False))
    return Array(tuple(both.values()), tuple(both), before.associative)

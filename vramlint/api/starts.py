"""What tells the starts of one launcher apart, and which of them are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.facts import Sheet
from vramlint.surfaces.launch import Launch, Workload
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Items, Scalar, Value


class Start(NamedTuple):
    """One start of a program."""

    workload: Workload
    through: tuple[str, ...]
    """The scripts that it is started through."""
    by: tuple[Place, ...]
    """The commands that start those."""
    launch: Launch


def distinct(starts: Iterable[Start]) -> Iterator[Start]:
    """The starts without those that repeat another: turns of a loop that the command takes nothing from.

    What is left of its label is what all its turns have in common.
    """
    found: dict[Hashable, Start] = {}
    for start in starts:
        key = _key(start)
        first = found.get(key)
        found[key] = start if first is None else _labelled(first, start.launch.command.label)
    yield from found.values()


def _key(start: Start) -> Hashable:
    launch = start.launch
    command = launch.command
    invocation = launch.invocation
    words = tuple(plain(item) for item in invocation.arguments)
    variables = tuple((entry.key, plain(entry.value)) for entry in invocation.environment)
    folder = plain(command.folder) if command.folder is not None else None
    declared = (start.workload.name, start.workload.facts, launch.facts, launch.links, launch.tables)
    return (start.by, command.place, launch.kind, launch.program, words, variables, folder, repr(declared))


def plain(value: Value) -> Hashable:
    """What a value is, wherever it is written: a turn of a loop takes it from another word than the next."""
    match value:
        case Scalar():
            return (type(value.value), value.value)
        case Items():
            return tuple(plain(item) for item in value.values)
        case Alternatives():
            return tuple((plain(option.value), option.condition) for option in value.options)
        case _:
            return repr(value)


def _labelled(start: Start, other: str) -> Start:
    common = ", ".join(part for part in _parts(start.launch.command.label) if part in _parts(other))
    return start._replace(launch=replace(start.launch, command=replace(start.launch.command, label=common)))


def _parts(label: str) -> list[str]:
    return label.split(", ") if label else []


def names_of(
    starts: Sequence[Start], load: Callable[[str], Document | None], unread: Sequence[Start] = ()
) -> tuple[str, ...]:
    """What tells starts apart: the target of a makefile, the line, the turn of a loop.

    Args:
        starts: those that train.
        load: file access.
        unread: other starts that may train, from which these are told apart, too.
    """
    groups = Counter((start.workload.path, start.workload.name) for start in (*starts, *unread))
    several = [groups[start.workload.path, start.workload.name] > 1 for start in starts]
    names = [_name(start, load, line=line) for start, line in zip(starts, several, strict=True)]
    inner = [start.launch.command.place for start in starts]
    further = (f" through {place.path}:{place.span.line}" for place in inner)
    return tuple(
        name + (more if start.by and names.count(name) > 1 else "")
        for start, name, more in zip(starts, names, further, strict=True)
    )


def called(sheet: Sheet, name: str) -> Sheet:
    """The sheet of a start that has this name."""
    return sheet if sheet.started is None else replace(sheet, started=replace(sheet.started, name=name))


def _name(start: Start, load: Callable[[str], Document | None], *, line: bool) -> str:
    command = start.launch.command
    at = (*start.by, command.place)[0]
    name = start.workload.path
    name += f":{_line(at, load(at.path))}" if line else ""
    name += f" ({start.workload.name})" if start.workload.name else ""
    return name + (f" [{command.label}]" if command.label else "")


def _line(place: Place, document: Document | None) -> str:
    """`12`, in a notebook `cell 3:2`."""
    cell = document.cell(place.span.line) if document else None
    return f"cell {cell.number}:{place.span.line - cell.first_line + 1}" if cell else str(place.span.line)

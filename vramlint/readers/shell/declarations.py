"""`export`, `declare`, `typeset`, `local`, `readonly`: assignments with attributes."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.readers.shell import expansion
from vramlint.readers.shell.assignments import assign, assignment
from vramlint.readers.shell.machine import YES, Machine, Outcome
from vramlint.readers.shell.pieces import Fork, Pieces, Text, assigned, known
from vramlint.readers.shell.state import Array

NAMES = frozenset({"export", "declare", "typeset", "local", "readonly"})


def declare(machine: Machine, spans: Sequence[tuple[int, int]]) -> Outcome:
    """Run a declaration, whose first word is its name."""
    text = machine.source.text
    name = text[slice(*spans[0])]
    flags = ""
    for start, end in spans[1:]:
        found = assignment(text, start, end)
        if found is not None:
            _local(machine, name, found.name)
            _attributes(machine, flags, found.name)
            assign(machine, found, associative="A" in flags)
            _export(machine, name, flags, found.name)
            continue
        for item, _, _ in expansion.fields(machine, [(start, end)]):
            word = None if isinstance(item, Fork) else known(item)
            if word is None or isinstance(item, Fork):
                continue
            if word.startswith(("-", "+")) and len(word) > 1:
                flags += word[1:] if word[0] == "-" else ""
            else:
                _named(machine, name, flags, word, item)
    return YES


def _named(machine: Machine, name: str, flags: str, word: str, item: Pieces) -> None:
    """`export X`, or `export "X=$Y"` and `export $ASSIGNMENT`, which become assignments by expansion."""
    title, equals, value = word.partition("=")
    if not title.isidentifier():
        return
    _local(machine, name, title)
    _attributes(machine, flags, title)
    if equals:
        pieces = _cut(item, len(title) + 1)
        machine.assign(title, assigned(pieces if value else ()))
    elif name in ("declare", "typeset", "local") and machine.value(title) is None:
        if "A" in flags or "a" in flags:
            machine.assign(title, Array((), () if "A" in flags else None, "A" in flags))
        else:
            machine.assign(title, ())
    _export(machine, name, flags, title)


def _cut(item: Pieces, length: int) -> Pieces:
    found: list[Text] = []
    for piece in item:
        if isinstance(piece, Text):
            cut = min(length, len(piece.text))
            length -= cut
            if cut < len(piece.text):
                found.append(piece.cut(cut, len(piece.text)))
    return tuple(found)


def _local(machine: Machine, name: str, title: str) -> None:
    """Remember what a function's own variable hides."""
    if name in ("export", "readonly") or not machine.locals:
        return
    machine.locals[-1].setdefault(title, machine.value(title))
    machine.state.variables.pop(title, None)
    machine.state.mentioned.add(title)


def _attributes(machine: Machine, flags: str, title: str) -> None:
    if "i" in flags:
        machine.state.integers |= {title}


def _export(machine: Machine, name: str, flags: str, title: str) -> None:
    if name == "export" and "n" in flags:
        machine.state.exported.pop(title, None)
    elif name == "export" or "x" in flags:
        machine.state.exported[title] = None

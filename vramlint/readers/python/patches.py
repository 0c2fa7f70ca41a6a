"""Functions of a library that the program puts its own in the place of: `LlamaAttention.forward = forward`."""

from __future__ import annotations

from collections.abc import Iterator

from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import BoundMethod, Choice, Function, LibraryObject, Object
from vramlint.text import Place
from vramlint.values import PATCHED, Scalar


def note_patch(machine: Machine, target: str, value: Object, place: Place) -> None:
    """Record, as a call of `target` with `PATCHED` behind it, what an attribute of a library is replaced by.

    Its arguments are the texts of the functions that it may be; nothing is recorded where the program has no such
    function.
    """
    texts = tuple(Scalar(text, place) for text in dict.fromkeys(_texts(machine, value)))
    if texts:
        machine.emit(LibraryObject(f"{target}{PATCHED}", texts, (), place))


def _texts(machine: Machine, value: Object) -> Iterator[str]:
    match value:
        case Choice():
            for option, _ in value.options:
                yield from _texts(machine, option)
        case BoundMethod():
            yield from _texts(machine, value.function)
        case Function():
            machine.whole(value)
            source = machine.source_of(value.node)
            span = source.place(value.node).span
            document = source.document
            yield document.text[document.offset(*span[:2]) : document.offset(*span[2:])]

"""Shorthands for the tests of the Python reader."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent

from vramlint.readers.python import read_program
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Call, Name, Plain, Program, Scalar, Unknown, Value, plain


def document(text: str) -> Document:
    return Document.of("train.py", dedent(text))


def program(text: str, known: Mapping[str, Plain] | None = None) -> Program:
    found, problems = read_program(document(text), known or {})
    assert found is not None, problems
    assert problems == ()
    return found


def value(text: str, known: Mapping[str, Plain] | None = None) -> Value:
    """What `x` holds at the end of the program."""
    return next(entry.value for entry in program(text, known).constants if entry.key == "x")


def shown(item: Value | None) -> object:
    """A value as plain Python, with markers for what is none."""
    match item:
        case Alternatives():
            return {option.condition: shown(option.value) for option in item.options}
        case Unknown():
            return f"? {item.reason}"
        case Call():
            return f"<{item.callee}>"
        case Scalar() | Name():
            return plain(item)
        case None:
            return "absent"
    try:
        return plain(item)
    except ValueError:
        return repr(item)


def call(found: Program, callee: str) -> Call:
    """The only call of that name."""
    (only,) = [made for made in found.calls if made.callee == callee]
    return only


def callees(found: Program) -> list[str]:
    return [made.callee for made in found.calls]


def at(text: str, place: Place | None) -> str:
    """The text that a place covers."""
    assert place is not None
    return document(text).slice(place.span)

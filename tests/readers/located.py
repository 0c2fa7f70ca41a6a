"""Checks shared by the tests of the data readers."""

from __future__ import annotations

from collections.abc import Callable

from vramlint.text import Document, Place
from vramlint.values import Items, Reading, Scalar, Table, Value, plain


def written(document: Document, place: Place | None) -> str:
    """The text at a place of the document."""
    assert place is not None
    assert place.path == document.path
    return document.slice(place.span)


def assert_spans_read_back(document: Document, value: Value, load: Callable[[str], object]) -> None:
    """Every scalar and key covers text that `load` reads as the same value."""
    match value:
        case Scalar():
            assert load(written(document, value.place)) == value.value
        case Items():
            for item in value.values:
                assert_spans_read_back(document, item, load)
        case Table():
            for entry in value:
                assert str(load(written(document, entry.key_place))) == entry.key
                assert_spans_read_back(document, entry.value, load)
        case _:
            raise AssertionError(value)


def root(reading: Reading) -> object:
    """The Python object of a reading that succeeded."""
    assert reading.root is not None, reading.problems
    return plain(reading.root)


def fault(reading: Reading) -> tuple[str, tuple[int, int], str]:
    """Kind, start and message of a reading's only problem."""
    (problem,) = reading.problems
    return problem.kind, (problem.place.span.line, problem.place.span.column), problem.message

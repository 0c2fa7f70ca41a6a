"""What tests of scripts ask: the sheet of a source text, and single facts of it."""

from __future__ import annotations

from textwrap import dedent

from vramlint.facts import Sheet
from vramlint.readers.python import read_program
from vramlint.surfaces import program_sheet
from vramlint.text import Document
from vramlint.values import Table


def sheet(source: str) -> Sheet:
    program, problems = read_program(Document.of("train.py", dedent(source)), {})
    assert not problems
    assert program is not None
    return program_sheet(program)


def says(found: Sheet, name: str) -> object:
    fact = found.get(name)
    assert fact is not None, f"{name} is not said"
    assert fact.known, f"{name}: {fact.candidates} {fact.reason}"
    return fact.value


def facts(found: Sheet, *names: str) -> dict[str, object]:
    return {name: says(found, name) for name in names}


def line(found: Sheet, name: str) -> int:
    fact = found.get(name)
    assert fact is not None
    assert fact.place is not None
    return fact.place.span.line


def possible(found: Sheet, name: str) -> set[object]:
    fact = found.get(name)
    assert fact is not None, f"{name} is not said"
    return {candidate.value for candidate in fact.candidates}


def reason(found: Sheet, name: str) -> str:
    fact = found.get(name)
    assert fact is not None, f"{name} is not said"
    assert not fact.candidates
    return fact.reason


def table(found: Sheet, name: str) -> Table:
    return next(table for kind, table in found.tables if kind == name)

"""What tests of frameworks ask: the sheet of a configuration's text, and single facts of it."""

from __future__ import annotations

from textwrap import dedent

from vramlint.catalog.versions import version_of
from vramlint.facts import Fact, Remark, Sheet
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.writing import read_data
from vramlint.text import Document
from vramlint.values import Table, plain


def sheet(framework: str, text: str, path: str = "run.yaml", release: str = "") -> Sheet:
    root = read_data(Document.of(path, dedent(text))).root
    assert isinstance(root, Table)
    return read_config(framework_of(framework), path, root, version_of(release) or None)


def fact(found: Sheet, name: str) -> Fact:
    said = found.get(name)
    assert said is not None, f"{name} is not said"
    return said


def says(found: Sheet, *names: str) -> dict[str, object]:
    return {name: fact(found, name).value for name in names}


def line(found: Sheet, name: str) -> int:
    place = fact(found, name).place
    assert place is not None, f"{name} has no place"
    return place.span.line


def model(found: Sheet) -> dict[str, object]:
    """The config.json that the configuration amounts to."""
    table = next(table for name, table in found.tables if name == "model-config")
    known = plain(table)
    assert isinstance(known, dict)
    return known


def remarks(found: Sheet) -> list[tuple[str, str, str]]:
    return [(remark.kind, remark.subject, remark.suggestion) for remark in found.remarks if _of_key(remark)]


def _of_key(remark: Remark) -> bool:
    return remark.kind in ("unknown-key", "removed-key")

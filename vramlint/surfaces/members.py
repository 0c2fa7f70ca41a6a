"""Setting keys of data files: a value in place of another, or a member in front of its table's first one.

Everything else stays as it is, byte for byte: comments, quotes, indentation, line ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from vramlint.text import Document, Edit, Place
from vramlint.values import Entry, Plain, Scalar, Table

JSON, YAML, TOML = "json", "yaml", "toml"
FORMS: Mapping[str, str] = {"json": JSON, "jsonc": JSON, "hjson": JSON, "yaml": YAML, "yml": YAML, "toml": TOML}
"""By suffix."""

_PLAIN_WORD = re.compile(r"[A-Za-z_./][\w./ -]*[\w./-]|[A-Za-z_]")
_YAML_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n"))
"""Words that YAML takes for something else than text."""


def form_of(path: str) -> str:
    """json, yaml or toml, by a file's suffix; empty for others."""
    return FORMS.get(path.rpartition(".")[2].lower(), "")


def literal(value: Plain, form: str, old: str = "") -> str:
    """A value as it is written in a form, quoted as the text that it replaces is.

    Raises:
        ValueError: TOML cannot write a null.
    """
    if isinstance(value, str):
        if form == YAML and old[:1] not in ("'", '"'):
            plain = _PLAIN_WORD.fullmatch(value) is not None and value.lower() not in _YAML_WORDS
            return value if plain else json.dumps(value)
        if old[:1] == "'" and form != JSON and "'" not in value:
            return f"'{value}'"
        return json.dumps(value)
    if value is None and form == TOML:
        raise ValueError("TOML has no null")
    return json.dumps(value)


def set_key(document: Document, root: Table, key: str, value: Plain, form: str) -> Edit | None:
    """The edit that makes the dotted `key` hold `value`; None where the text cannot be edited with certainty.

    Args:
        document: the file.
        root: what was read from it.
        key: dotted for nested tables.
        value: a scalar; None is written as a null.
        form: json, yaml or toml.
    """
    path = key.split(".")
    found = root.entry(*path) or root.entry(key)
    if found is not None:
        return _replaced(document, found, value, form)
    table, rest = root, path
    while len(rest) > 1 and isinstance(inner := table.get(rest[0]), Table) and inner.entries:
        table, rest = inner, rest[1:]
    if table.entry(rest[0]) is not None:
        return None  # something that is no table stands where one is needed
    return _added(document, table, rest, value, form)


def _replaced(document: Document, entry: Entry, value: Plain, form: str) -> Edit | None:
    place = entry.value.place
    if not isinstance(entry.value, Scalar) or place is None or place.path != document.path:
        return None
    old = document.slice(place.span)
    if not old:  # `key:` with nothing behind it
        return Edit(place, f" {literal(value, form)}") if form == YAML else None
    return None if "\n" in old or old[:1] in ("|", ">", "&", "*") else Edit(place, literal(value, form, old))


def _added(document: Document, table: Table, path: list[str], value: Plain, form: str) -> Edit | None:
    first = next(iter(table.entries), None)
    at = first.key_place if first else None
    if first is None or at is None or at.path != document.path:
        return None
    line = document.line(at.span.line)
    indent = line[: at.span.column - 1]
    alone = not indent.strip()
    end = "\r\n" if "\r\n" in document.text else "\n"
    start = document.offset(at.span.line, at.span.column)
    if form == JSON or (form == YAML and alone and _is_braced(document, table)):
        written = _json(path, value)
        gap = f",{end}{indent}" if alone else ", "
        place = document.span(start, start)
        return Edit(Place(document.path, place), f"{written}{gap}")
    flow = form == YAML and not alone and "{" in line[: at.span.column - 1]
    if flow:
        place = document.span(start, start)
        return Edit(Place(document.path, place), f"{path[0]}: {_flow(path[1:], value)}, ")
    if not alone:
        return None
    begin = document.offset(at.span.line, 1)
    place = document.span(begin, begin)
    rows = _toml(path, value, indent) if form == TOML else _yaml(path, value, indent)
    return Edit(Place(document.path, place), "".join(f"{row}{end}" for row in rows))


def _is_braced(document: Document, table: Table) -> bool:
    """Whether a table of YAML is written as JSON is, over several lines."""
    place = table.place
    return place is not None and document.slice(place.span).startswith("{")


def _json(path: list[str], value: Plain) -> str:
    inner = json.dumps(value)
    for key in reversed(path[1:]):
        inner = f"{{{json.dumps(key)}: {inner}}}"
    return f"{json.dumps(path[0])}: {inner}"


def _flow(path: list[str], value: Plain) -> str:
    inner = literal(value, YAML)
    for key in reversed(path):
        inner = f"{{{key}: {inner}}}"
    return inner


def _yaml(path: list[str], value: Plain, indent: str) -> list[str]:
    rows = [f"{indent}{'  ' * depth}{key}:" for depth, key in enumerate(path)]
    rows[-1] += f" {literal(value, YAML)}"
    return rows


def _toml(path: list[str], value: Plain, indent: str) -> list[str]:
    return [f"{indent}{'.'.join(path)} = {literal(value, TOML)}"]

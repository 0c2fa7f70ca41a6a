"""Setting keys of data files: a value in place of another, or a member behind one of its table that it goes with.

Everything else stays as it is, byte for byte: comments, quotes, indentation, line ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from vramlint.surfaces.literals import JSON, TOML, YAML, literal
from vramlint.surfaces.neighbours import neighbours
from vramlint.surfaces.spelling import Written
from vramlint.text import Document, Edit, Place
from vramlint.values import Entry, Items, Reading, Scalar, Table, Value

FORMS: Mapping[str, str] = {"json": JSON, "jsonc": JSON, "hjson": JSON, "yaml": YAML, "yml": YAML, "toml": TOML}
"""By suffix."""


def form_of(path: str) -> str:
    """json, yaml or toml, by a file's suffix; empty for others."""
    return FORMS.get(path.rpartition(".")[2].lower(), "")


def read_data(document: Document) -> Reading:
    """The tree of a JSON, YAML or TOML document."""
    form = form_of(document.path)
    if form == JSON:
        from vramlint.readers.json import read_json

        return read_json(document)
    if form == TOML:
        from vramlint.readers.toml import read_toml

        return read_toml(document)
    from vramlint.readers.yaml import read_yaml

    return read_yaml(document)


def set_key(document: Document, root: Table, key: str, value: Written, form: str) -> Edit | None:
    """The edit that makes the dotted `key` hold `value`; None where the text cannot be edited with certainty.

    Args:
        document: the file.
        root: what was read from it.
        key: dotted for nested tables.
        value: what it is to hold; None is written as a null.
        form: json, yaml or toml.
    """
    path = key.split(".")
    found = root.entry(*path) or root.entry(key)
    if found is not None:
        return _replaced(document, found, value, form)
    table, rest = root, path
    while len(rest) > 1 and isinstance(inner := table.get(rest[0]), Table):
        table, rest = inner, rest[1:]
    if table.entry(rest[0]) is not None:
        return None  # something that is no table stands where one is needed
    return _added(document, table, rest, value, form)


def _replaced(document: Document, entry: Entry, value: Written, form: str) -> Edit | None:
    place = entry.value.place
    if not isinstance(entry.value, Scalar | Items) or place is None or place.path != document.path:
        return None
    old = document.slice(place.span)
    if not old:  # `key:` with nothing behind it
        return Edit(place, f" {literal(value, form)}") if form == YAML else None
    if old[:1] in ("|", ">", "&", "*"):
        return None
    if isinstance(entry.value, Items) and old[:1] == "-":
        longer = _longer(document, entry.value, value)
        if longer is not None:
            return longer
        text = _block(document, entry.value, value)
        return Edit(place, text) if text is not None else None
    return None if "\n" in old else Edit(place, literal(value, form, old))


def _longer(document: Document, items: Items, value: Written) -> Edit | None:
    """A list of YAML with an item a line that goes on: further lines behind the last one and its comment."""
    now = tuple([item.value for item in items.values if isinstance(item, Scalar)])
    last = items.values[-1].place
    if not isinstance(value, tuple) or len(now) != len(items.values) or len(value) <= len(now) or last is None:
        return None
    line = document.line(last.span.line)
    indent = line[: len(line) - len(line.lstrip(" "))]
    if value[: len(now)] != now or not line.startswith(f"{indent}- ") or last.span.line != last.span.end_line:
        return None
    at = document.offset(last.span.line, 1) + len(line)
    end = document.line_end(last.span.line)
    old = document.slice(last.span)
    rows = "".join(f"{end}{indent}- {literal(item, YAML, old)}" for item in value[len(now) :])
    return Edit(Place(document.path, document.span(at, at)), rows)


def _block(document: Document, items: Items, value: Written) -> str | None:
    """A list of YAML with an item a line as another such list; None where comments or nested values stand in it."""
    place = items.place
    if place is None or not isinstance(value, tuple):
        return None
    old = document.slice(place.span)
    rows = [row.strip() for row in old.rstrip().split("\n")]
    first = rows[0][1:].strip()
    if len(rows) != len(items.values) or any(not row.startswith("- ") or " #" in row for row in rows):
        return None
    end = document.line_end(place.span.line)
    indent = " " * (place.span.column - 1)
    written = f"{end}{indent}".join(f"- {literal(item, YAML, first)}" for item in value)
    return written + old[len(old.rstrip()) :]


def _added(document: Document, table: Table, path: list[str], value: Written, form: str) -> Edit | None:
    """A new member behind the one that it goes with, or in front of the first where none is plain enough."""
    own = [entry for entry in table.entries if _is_own(table, entry)]
    if not own or own[0].key_place is None or own[0].key_place.path != document.path:
        return _first_member(document, table, path, value, form)
    braced = form == JSON or (form == YAML and _is_braced(document, table))
    for entry in neighbours(path[0], own):
        at, behind = entry.key_place, _end(entry.value)
        if at is None or behind is None or {at.path, behind.path} != {document.path}:
            continue
        line = document.line(at.span.line)
        indent = line[: at.span.column - 1].removeprefix("\ufeff")
        if indent.strip() or at.span.line != behind.span.end_line:
            continue
        end = document.offset(behind.span.end_line, behind.span.end_column)
        if braced:
            rest = document.text[end:].lstrip()[:1]
            gap = f",{document.line_end(at.span.line)}{indent}"
            text = f"{gap}{_json(path, value)}" if rest in (",", "}") else ""
        elif form in (YAML, TOML):
            rows = _toml(path, value, indent) if form == TOML else _yaml(path, value, indent)
            line_end = document.line_end(at.span.line)
            stop = document.text.find("\n", end)
            text = "".join(f"{row}{line_end}" if stop >= 0 else f"{line_end}{row}" for row in rows)
            end = stop + 1 if stop >= 0 else len(document.text)
        else:
            text = ""
        if text:
            return Edit(Place(document.path, document.span(end, end)), text)
    return _in_front(document, own[0].key_place, table, path, value, form)


def _end(value: Value) -> Place | None:
    """Where a value is that is whole on its line; None of what YAML's `|` and its like begin."""
    return value.place if isinstance(value, Scalar | Items | Table) else None


def _in_front(document: Document, at: Place, table: Table, path: list[str], value: Written, form: str) -> Edit | None:
    """In front of the table's first member, which stands at `at`."""
    line = document.line(at.span.line)
    indent = line[: at.span.column - 1]
    mark = "\ufeff" if indent.startswith("\ufeff") else ""
    alone = not indent.removeprefix(mark).strip()
    indent = indent.removeprefix(mark)
    end = document.line_end(at.span.line)
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
    begin = document.offset(at.span.line, 1) + len(mark)
    place = document.span(begin, begin)
    rows = _toml(path, value, indent) if form == TOML else _yaml(path, value, indent)
    return Edit(Place(document.path, place), "".join(f"{row}{end}" for row in rows))


def _is_own(table: Table, entry: Entry) -> bool:
    """Whether an entry stands in the table itself, and not in one that is merged into it."""
    if table.place is None or entry.key_place is None:
        return True
    span, at = table.place.span, entry.key_place.span
    return (span.line, span.column) <= (at.line, at.column) and at.line <= span.end_line


def _first_member(document: Document, table: Table, path: Sequence[str], value: Written, form: str) -> Edit | None:
    """The member of an empty `{}`."""
    place = table.place
    if table.entries or form == TOML or place is None or place.path != document.path:
        return None
    if document.slice(place.span).replace(" ", "") != "{}":
        return None
    written = _json(path, value) if form == JSON else f"{path[0]}: {_flow(path[1:], value)}"
    return Edit(place, f"{{{written}}}")


def _is_braced(document: Document, table: Table) -> bool:
    """Whether a table of YAML is written as JSON is, over several lines."""
    place = table.place
    return place is not None and document.slice(place.span).startswith("{")


def _json(path: Sequence[str], value: Written) -> str:
    inner = literal(value, JSON)
    for key in reversed(path[1:]):
        inner = f"{{{json.dumps(key)}: {inner}}}"
    return f"{json.dumps(path[0])}: {inner}"


def _flow(path: Sequence[str], value: Written) -> str:
    inner = literal(value, YAML)
    for key in reversed(path):
        inner = f"{{{key}: {inner}}}"
    return inner


def _yaml(path: list[str], value: Written, indent: str) -> list[str]:
    rows = [f"{indent}{'  ' * depth}{key}:" for depth, key in enumerate(path)]
    rows[-1] += f" {literal(value, YAML)}"
    return rows


def _toml(path: list[str], value: Written, indent: str) -> list[str]:
    return [f"{indent}{'.'.join(path)} = {literal(value, TOML)}"]

"""Files of data made into what every reader takes: keys once, JSON without comments and trailing commas.

An edit is given only where the file, read again, says what it said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vramlint.patterns import lazy
from vramlint.readers.comments import MARKER
from vramlint.readers.json import read_json
from vramlint.surfaces.literals import JSON
from vramlint.surfaces.members import form_of, read_data
from vramlint.surfaces.removal import without_members
from vramlint.text import Document, Edit, Place, edited
from vramlint.values import Entry, Items, Scalar, Table, Value

Said = tuple[str, tuple[Edit, ...]]

_BETWEEN = r"(?:\s|//[^\r\n]*|\#[^\r\n]*|/\*.*?\*/)*"
_BEYOND = lazy(
    rf"""
    "(?:[^"\\\r\n]|\\.)*"
    | (?P<comment>//[^\r\n]*|\#[^\r\n]*|/\*.*?\*/)
    | (?P<comma>,)(?={_BETWEEN}[}}\]])
    """,
    re.VERBOSE | re.DOTALL,
)
"""Strings, in which nothing is looked for, and what JSON does not have."""


def without_repetition(document: Document, place: Place) -> Said | None:
    """A key that is written once: of one that stands before, and that the one at `place` overrules, nothing stays."""
    form = form_of(document.path)
    root = read_data(document).root if form else None
    overruled = _overruled(root, place) if root is not None else None
    edit = without_members(document, [overruled], form) if overruled is not None else None
    if edit is None or overruled is None:
        return None
    return _kept(document, f"without the first `{overruled.key}`", (edit,))


def strict(document: Document) -> Said | None:
    """JSON without its comments and trailing commas; None where it has other liberties too."""
    if form_of(document.path) != JSON:
        return None
    found = [match for match in _BEYOND.finditer(document.text) if match.lastgroup]
    if any(MARKER in (match["comment"] or "") for match in found):
        return None  # what it tells vramlint would be lost
    kinds = dict.fromkeys("comments" if match["comment"] else "trailing commas" for match in found)
    edits = tuple(_cut(document, *_extent(document.text, match)) for match in found)
    kept = _kept(document, f"without {' and '.join(kinds)}", edits) if edits else None
    if kept is None or any(problem.kind == "json-extension" for problem in read_json(edited(document, edits)).problems):
        return None
    return kept


def _cut(document: Document, start: int, end: int) -> Edit:
    return Edit(Place(document.path, document.span(start, end)), "")


def _extent(text: str, match: re.Match[str]) -> tuple[int, int]:
    """What goes: of a comment also the space before it, and its line where nothing else stands there."""
    start, end = match.span()
    if match["comma"]:
        return start, end
    before = text[:start].rstrip(" \t")
    behind = len(text) - len(text[end:].lstrip(" \t"))
    if text[behind : behind + 1] not in ("", "\r", "\n"):
        return start, end
    start = len(before)
    if before and not before.endswith("\n"):
        return start, end
    stop = text.find("\n", behind)
    return start, len(text) if stop < 0 else stop + 1


def _kept(document: Document, words: str, edits: tuple[Edit, ...]) -> Said | None:
    """The edits, where the file means after them what it meant before."""
    try:
        after = edited(document, edits)
    except ValueError:
        return None
    before, now = read_data(document).root, read_data(after).root
    return (words, edits) if before is not None and now is not None and _meaning(before) == _meaning(now) else None


def _meaning(value: Value) -> object:
    """A value without places; of a key that is written twice the last one."""
    match value:
        case Table(entries=entries):
            return {entry.key: _meaning(entry.value) for entry in entries}
        case Items(values=values):
            return [_meaning(item) for item in values]
        case Scalar(value=plain):
            return type(plain).__name__, repr(plain)
        case _:
            return type(value).__name__


def _overruled(value: Value, place: Place) -> Entry | None:
    """The member that one whose key is at a place overrules."""
    for table in _tables(value):
        index = next((index for index, entry in enumerate(table.entries) if entry.key_place == place), None)
        if index is not None:
            same = [entry for entry in table.entries[:index] if entry.key == table.entries[index].key]
            return same[-1] if same else None
    return None


def _tables(value: Value) -> Iterator[Table]:
    inner: Sequence[Value] = ()
    if isinstance(value, Table):
        yield value
        inner = [entry.value for entry in value.entries]
    elif isinstance(value, Items):
        inner = value.values
    for item in inner:
        yield from _tables(item)

"""Remarks taken away: what a `Repair` says as edits in the words of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vramlint.facts import Remark, Repair
from vramlint.findings import Step
from vramlint.patterns import lazy
from vramlint.surfaces.literals import JSON, PYTHON, SHELL, YAML, literal, value_at
from vramlint.surfaces.members import form_of, read_data, set_key
from vramlint.surfaces.removal import remove_keys
from vramlint.surfaces.strictness import strict, without_repetition
from vramlint.text import Document, Edit, Place
from vramlint.values import COMMENT, Scalar, Table

_KEY = lazy(r"(?P<head>(?:-{1,2})?[\"']?)(?P<name>[A-Za-z_][\w.-]*)(?P<tail>[\"']?(?:[=:].*)?)", re.DOTALL)
"""A key as it is written: a member's, a keyword, an option."""
_YAML_FLOAT = lazy(r"([-+]?\d+)([eE])([-+]?\d+)\Z")


def mended(remark: Remark, documents: Mapping[str, Document]) -> Step | None:
    """The change that takes a remark away; None where there is none, or the file cannot be edited with certainty.

    Args:
        remark: what a surface or `resolve` saw.
        documents: the files by path.
    """
    repair = remark.repair
    document = documents.get(remark.place.path)
    if repair is None or document is None:
        return None
    found: list[tuple[str, tuple[Edit, ...]] | None] = []
    if repair.rename:
        found.append(_renamed(remark, repair.rename, document))
    if repair.value is not None:
        found.append(_replaced(remark, repair.value, document))
    if repair.put or repair.remove:
        found.append(_rewritten(repair, document))
    if repair.cut:
        found.append(_cut(repair, document))
    if repair.once:
        found.append(without_repetition(document, remark.place))
    if repair.strict:
        found.append(strict(document))
    edits = tuple(edit for part in found if part is not None for edit in part[1])
    if None in found or not edits:
        return None
    return Step(", ".join(part[0] for part in found if part is not None), 0, repair.cost, repair.safe, edits)


def _renamed(remark: Remark, name: str, document: Document) -> tuple[str, tuple[Edit, ...]] | None:
    """The key at the remark's place by another name, quoted and with dashes as it was."""
    match = _KEY.fullmatch(document.slice(remark.place.span))
    if match is None:
        return None
    *above, last = match["name"].split(".")
    if last.replace("-", "_") != remark.subject.rpartition(".")[2].replace("-", "_"):
        return None
    new = name.replace("_", "-") if "-" in last and "_" not in last else name
    start = document.offset(remark.place.span.line, remark.place.span.column) + match.start("name")
    start += sum(len(part) + 1 for part in above)
    place = Place(document.path, document.span(start, start + len(last)))
    return f"`{new}` in place of `{last}`", (Edit(place, new),)


def _replaced(remark: Remark, value: Scalar, document: Document) -> tuple[str, tuple[Edit, ...]] | None:
    """Another value at the remark's place."""
    old = document.slice(remark.place.span)
    if value.via == COMMENT:  # there are no quotes in comments
        return f"`{value.value}` in place of `{old}`", (Edit(remark.place, str(value.value)),)
    form = form_of(document.path) or (PYTHON if document.path.endswith((".py", ".ipynb")) else SHELL)
    if not old or "\n" in old or form == SHELL:
        return None
    text = _number(old, value, form)
    return f"`{_said(remark.subject, text, form)}`", (Edit(remark.place, text),)


def _number(old: str, value: Scalar, form: str) -> str:
    """A value as the form writes it; a number in the digits that were quoted, where the form takes these."""
    if isinstance(value.value, str):
        return literal(value.value, form, old)
    digits = old.strip("\"'").strip()
    again = value_at(digits, form)
    if isinstance(again, Scalar) and type(again.value) in (int, float) and again.value == value.value:
        return digits
    text = literal(value.value, form)
    return _YAML_FLOAT.sub(r"\1.0\2\3", text) if form == YAML else text


def _rewritten(repair: Repair, document: Document) -> tuple[str, tuple[Edit, ...]] | None:
    """Keys of a file of data set or taken out."""
    form = form_of(document.path)
    root = read_data(document).root if form else None
    if not isinstance(root, Table):
        return None
    edits: list[Edit] = []
    words: list[str] = []
    for key, said in repair.put:
        value = said if isinstance(said, str) else dict((said,))
        edit = set_key(document, root, key, value, form)
        if edit is None:
            return None
        edits.append(edit)
        words.append(f"`{_said(repair.rename or key, literal(value, form), form)}`")
    if repair.remove:
        removed = remove_keys(document, root, repair.remove, form)
        if removed is None:
            return None
        edits += removed
        words.append(f"without {', '.join(key.rpartition('.')[2] for key in repair.remove)}")
    return ", ".join(words), tuple(edits)


def _said(key: str, text: str, form: str) -> str:
    """A key with its value as the form writes it, without the tables that it stands in."""
    last = key.rpartition(".")[2]
    return {JSON: f'"{last}": {text}', PYTHON: f"{last}={text}"}.get(form, f"{last}: {text}")


def _cut(repair: Repair, document: Document) -> tuple[str, tuple[Edit, ...]] | None:
    """Parts of comments taken out, with the space before them; with the line where nothing else stands there."""
    edits = []
    for place in repair.cut:
        if place.path != document.path:
            return None
        start, end = (document.offset(*place.span[:2]), document.offset(*place.span[2:]))
        text = document.text
        before = text[:start].rstrip(" \t")
        behind = text[end:].lstrip(" \t")
        if not behind or behind.startswith(("\n", "\r\n")):
            start = len(before)
            if not before or before.endswith("\n"):
                stop = text.find("\n", end)
                end = len(text) if stop < 0 else stop + 1
        edits.append(Edit(Place(document.path, document.span(start, end)), ""))
    return "without the comment", tuple(edits)

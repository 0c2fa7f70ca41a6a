"""Taking members out of data files; what stands around them stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vramlint.patterns import lazy
from vramlint.surfaces.literals import TOML, YAML
from vramlint.text import Document, Edit, Place
from vramlint.values import Entry, Items, Scalar, Table

_SPACE = lazy(r"\s*")


def remove_keys(document: Document, root: Table, keys: Sequence[str], form: str) -> tuple[Edit, ...] | None:
    """The edits by which a file has the dotted `keys` no longer; None where the text cannot be edited with certainty.

    Args:
        document: the file.
        root: what was read from it.
        keys: of members that are there; of each table one at least stays.
        form: json, yaml or toml.
    """
    edits: list[Edit] = []
    for parent in dict.fromkeys(key.rpartition(".")[0] for key in keys):
        table = root.get(*parent.split(".")) if parent else root
        names = {key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == parent}
        if not isinstance(table, Table) or names.issuperset(entry.key for entry in table):
            return None
        for run in _runs(table, names):
            edit = without_members(document, run, form)
            if edit is None:
                return None
            edits.append(edit)
    return tuple(edits)


def _runs(table: Table, names: set[str]) -> Iterator[list[Entry]]:
    """The members of these names, those that follow each other together."""
    run: list[Entry] = []
    for entry in table:
        if entry.key in names:
            run.append(entry)
        elif run:
            yield run
            run = []
    if run:
        yield run


def without_members(document: Document, run: Sequence[Entry], form: str) -> Edit | None:
    """The edit by which members that follow each other go; None where the text cannot be edited with certainty.

    Args:
        document: the file.
        run: the members.
        form: json, yaml or toml.
    """
    first, last = run[0].key_place, run[-1].value
    behind = last.place if isinstance(last, Scalar | Items | Table) else None
    if first is None or behind is None or {first.path, behind.path} != {document.path}:
        return None
    start = document.offset(first.span.line, first.span.column)
    end = document.offset(behind.span.end_line, behind.span.end_column)
    alone = not document.line(first.span.line)[: first.span.column - 1].strip(" \t\ufeff")
    if form == TOML or (form == YAML and alone and not _is_flow(document.text, end)):
        span = _lines(document, run, start, end) if alone else None
    else:
        span = _members(document.text, start, end)
    return None if span is None else Edit(Place(document.path, document.span(*span)), "")


def _is_flow(text: str, end: int) -> bool:
    """Whether a comma or a bracket follows: JSON's form."""
    match = _SPACE.match(text, end)
    return match is not None and text[match.end() : match.end() + 1] in (",", "}")


def _members(text: str, start: int, end: int) -> tuple[int, int] | None:
    """From the first member's key to that of the next one; of the last member from the comma before it."""
    behind = _past_space(text, end)
    if text[behind : behind + 1] == ",":
        following = _past_space(text, behind + 1)
        if text[following : following + 1] in ("#", "/"):
            return None  # a comment on what goes
        if text[following : following + 1] not in ("}", ""):
            return start, following
        end = behind + 1
    elif text[behind : behind + 1] != "}":
        return None
    before = len(text[:start].rstrip())
    if text[before - 1 : before] == ",":
        # a trailing comma stays where there was one
        return (before - 1 if end <= behind else before), end
    return None


def _past_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _lines(document: Document, run: Sequence[Entry], start: int, end: int) -> tuple[int, int] | None:
    """The whole lines of members that stand on lines of their own."""
    text = document.text
    if any(not isinstance(entry.value, Scalar) for entry in run) and "#" in text[start:end]:
        return None  # whose comments they are is not sure
    end = start + len(text[start:end].rstrip())
    begin = document.offset(document.position(start)[0], 1) + (start == 1 and text[0] == "\ufeff")
    rest = text[end : text.find("\n", end) if "\n" in text[end:] else len(text)].strip()
    if rest and not rest.startswith("#"):
        return None
    stop = text.find("\n", end)
    return begin, len(text) if stop < 0 else stop + 1

"""Edits change what they say and not a byte beside it, whatever the file is written in."""

from __future__ import annotations

import json

import pytest

from tests.readers.notebook.making import code, written
from vramlint.discovery import decode
from vramlint.discovery.forms import form_of
from vramlint.fixes.applying import FAILED, apply
from vramlint.text import Document, Edit, Place
from vramlint.values import Problem


def edits_of(path: str, data: bytes, *changes: tuple[str, str]) -> tuple[list[Edit], dict[str, Document]]:
    """Edits that replace texts which come once in a file."""
    document = decode(path, data, form_of(path))
    assert isinstance(document, Document)
    found = []
    for old, new in changes:
        assert document.text.count(old) == 1
        start = document.text.index(old)
        found.append(Edit(Place(path, document.span(start, start + len(old))), new))
    return found, {path: document}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.yaml", b"\xef\xbb\xbfa: 1\r\nbatch: 8 # \xc3\xa9\nc: \xf0\x9f\x9a\x80\r\n"),
        ("a.json", b'{"batch": 8,\r\n "b":\t"\xc3\xa9"}'),
        ("a.toml", b"batch = 8\r\n\r\n\r\n"),
        ("a.sh", b"run --batch 8 \\\n  --name \xe2\x82\xac\r\n"),
        ("a.py", b"# -*- coding: latin-1 -*-\nbatch = 8  # \xe9\r\n"),
        ("a.py", b"\xef\xbb\xbf# coding: utf-8\nbatch = 8  # \xc3\xa9"),
    ],
)
def test_only_the_edited_bytes_change(path: str, data: bytes) -> None:
    edits, documents = edits_of(path, data, ("batch", "size"))
    assert apply(edits, documents, {path: data}.get) == {path: data.replace(b"batch", b"size")}


def test_a_notebook_changes_in_its_cell_alone() -> None:
    data = written(code("a = 1", "batch = 8"), code("b = 'é'")).encode()
    edits, documents = edits_of("n.ipynb", data, ("batch = 8", "batch = 16"))
    changed = apply(edits, documents, {"n.ipynb": data}.get)
    assert changed == {"n.ipynb": data.replace(b"batch = 8", b"batch = 16")}
    assert json.loads(changed["n.ipynb"])


def test_edits_of_several_files_and_one_that_comes_twice() -> None:
    one, documents = edits_of("a.yaml", b"x: 1\ny: 2\n", ("1", "3"), ("2", "4"))
    two, further = edits_of("b.sh", b"run 5\n", ("5", "6"))
    files = {"a.yaml": b"x: 1\ny: 2\n", "b.sh": b"run 5\n"}
    changed = apply([*one, *two, *one], documents | further, files.get)
    assert changed == {"a.yaml": b"x: 3\ny: 4\n", "b.sh": b"run 6\n"}


def test_a_file_that_stays_as_it_is_is_not_among_the_changed() -> None:
    edits, documents = edits_of("a.yaml", b"x: 1\n", ("1", "1"))
    assert apply(edits, documents, {"a.yaml": b"x: 1\n"}.get) == {}


@pytest.mark.parametrize(
    ("now", "changes", "message"),
    [
        (b"x: 2\n", [("1", "3")], "the file has changed since it was read"),
        (None, [("1", "3")], "there is no such file"),
        (b"x: 1\n", [("x: 1", "3"), ("1", "2")], "overlapping edits at line 1"),
    ],
)
def test_what_cannot_be_made_changes_nothing(now: bytes | None, changes: list[tuple[str, str]], message: str) -> None:
    good, documents = edits_of("b.yaml", b"y: 1\n", ("1", "2"))
    edits, further = edits_of("a.yaml", b"x: 1\n", *changes)
    problem = apply([*good, *edits], documents | further, {"a.yaml": now, "b.yaml": b"y: 1\n"}.get)
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.message, problem.place.path) == (FAILED, message, "a.yaml")


@pytest.mark.parametrize(
    ("data", "new", "message"),
    [
        (b"# coding: latin-1\na = 8\n", "'\u20ac'", "iso-8859-1 has no '\u20ac'"),
        (b"# coding: utf-7\na = 8  # +AGEAYg-\n", "9", "its bytes are not those that utf-7 writes"),
    ],
)
def test_encodings_that_cannot_say_it(data: bytes, new: str, message: str) -> None:
    edits, documents = edits_of("a.py", data, ("a = 8", f"a = {new}"))
    problem = apply(edits, documents, {"a.py": data}.get)
    assert isinstance(problem, Problem)
    assert problem.message == message

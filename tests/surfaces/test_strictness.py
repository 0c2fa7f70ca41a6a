"""Files of data made into what every reader takes; strings and what else stands there stay."""

from __future__ import annotations

import json

import pytest

from vramlint.surfaces.strictness import strict, without_repetition
from vramlint.text import Document, Place, apply_edits


@pytest.mark.parametrize(
    ("before", "expected", "words"),
    [
        ('{\n  // a\n  "a": 1\n}', '{\n  "a": 1\n}', "comments"),
        ('{\r\n  "a": 1,  # one\r\n  "b": 2 /* two */\r\n}\r\n', '{\r\n  "a": 1,\r\n  "b": 2\r\n}\r\n', "comments"),
        ('{"a": /* in */ 1}', '{"a":  1}', "comments"),
        ('{"a": [1, 2,],}', '{"a": [1, 2]}', "trailing commas"),
        ('{"a": 1, // one\n}', '{"a": 1\n}', "trailing commas and comments"),
        ('{"a": "// no # comment, ]",}', '{"a": "// no # comment, ]"}', "trailing commas"),
        ('{"a": "\\",}", "b": 1,}', '{"a": "\\",}", "b": 1}', "trailing commas"),
        ('/* head\n   more */\n{"a": 1}\n// end', '{"a": 1}\n', "comments"),
    ],
)
def test_comments_and_trailing_commas_go(before: str, expected: str, words: str) -> None:
    document = Document.of("ds.json", before)
    found = strict(document)
    assert found is not None
    assert found[0] == f"without {words}"
    after = apply_edits(document, found[1])
    assert after == expected
    json.loads(after)


@pytest.mark.parametrize(
    ("path", "before"),
    [
        ("ds.json", '{"a": 1}'),
        ("ds.json", "{a: 1, // key without quotes\n}"),
        ("ds.json", '{"a": 1 // missing comma\n "b": 2}'),
        ("ds.json", "{'a': 1,}"),
        ("ds.json", '{\n  // vramlint: gpu=h100\n  "a": 1\n}'),
        ("ds.json", '{"a": // never closed'),
        ("a.yaml", "a: 1  # one\n"),
    ],
)
def test_other_liberties_and_what_speaks_to_vramlint_stay(path: str, before: str) -> None:
    assert strict(Document.of(path, before)) is None


@pytest.mark.parametrize(
    ("path", "before", "expected"),
    [
        ("a.json", '{"a": 1, "b": 2, "a": 3}', '{"b": 2, "a": 3}'),
        ("a.json", '{\n  "b": {"a": 1, "a": 3},\n  "c": 1\n}', '{\n  "b": {"a": 3},\n  "c": 1\n}'),
        ("a.yaml", "a: 1  # one\nb: 2\na: 3  # three\n", "b: 2\na: 3  # three\n"),
        ("a.yaml", "l:\n  - a: 1\n    a: 3\n", None),
        ("a.yaml", "x:\n  a:\n    deep: 1\n  a: 3\n", "x:\n  a: 3\n"),
        ("a.yaml", "a: &one 1\nb: *one\na: 3\n", None),
    ],
)
def test_of_a_key_that_is_written_twice_the_last_stays(path: str, before: str, expected: str | None) -> None:
    document = Document.of(path, before)
    at = before.rindex('"a"' if path.endswith("json") else "a: 3")
    key = Place(path, document.span(at, at + (3 if path.endswith("json") else 1)))
    found = without_repetition(document, key)
    assert (found and apply_edits(document, found[1])) == expected
    assert found is None or found[0] == "without the first `a`"


def test_a_key_that_is_written_once_stays() -> None:
    document = Document.of("a.json", '{"a": 1, "b": {"a": 3}}')
    at = document.text.rindex('"a"')
    assert without_repetition(document, Place("a.json", document.span(at, at + 3))) is None
    assert without_repetition(document, Place("a.json", document.span(0, 1))) is None

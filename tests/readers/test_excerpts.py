from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vramlint.readers.excerpts import Excerpt, Piece, joined, moved
from vramlint.readers.quoted import excerpt_of
from vramlint.readers.templates import expanded
from vramlint.readers.yaml import read_yaml
from vramlint.text import Document, Place
from vramlint.values import Scalar, Table, Unknown, Value


def scalar(document: Document) -> Scalar:
    root = read_yaml(document).root
    assert isinstance(root, Table)
    found = root.get("k")
    assert isinstance(found, Scalar)
    return found


def found(excerpt: Excerpt, word: str) -> Place:
    start = excerpt.text.index(word)
    return Place(excerpt.document.path, excerpt.document.span(start, start + len(word)))


@pytest.mark.parametrize(
    "text",
    [
        "k: |\n  run train.py\n    --lr 1\n",
        "k: |2-\n   run\n    train.py\n",
        "k: >-\n  run\n  train.py\n\n  next\n",
        "k: run train.py\n",
        "k: run\n   train.py\n",
        "k: 'run ''train.py'' now'\n",
        'k: "run \\"a\\" \\\n  train.py"\n',
        'k: "run\\n\\ttrain.py"\n',
        "k: &anchor !!str |  # comment\n  run train.py\n",
        "a: &x run train.py\nk: *x\n",
    ],
)
def test_words_of_every_kind_of_scalar_are_found_where_they_stand(text: str) -> None:
    document = Document.of("a.yaml", text)
    value = scalar(document)
    excerpt = excerpt_of(document, str(value.value), value.place)
    assert excerpt.text == value.value
    place = excerpt.stands(found(excerpt, "train.py"))
    assert document.slice(place.span) == "train.py"
    assert place.path == "a.yaml"


def test_what_cannot_be_found_covers_the_whole_value() -> None:
    document = Document.of("a.py", "run('a' 'b')")
    excerpt = excerpt_of(document, "ab", Place("a.py", document.span(4, 11)))
    assert document.slice(excerpt.stands(found(excerpt, "b")).span) == "'a' 'b'"


@given(st.text(max_size=30), st.sampled_from(["|", ">", "'", '"', None]))
def test_any_scalar_has_its_text_and_places_in_the_file(text: str, style: str | None) -> None:
    document = Document.of("a.yaml", yaml.safe_dump({"k": text}, default_style=style, allow_unicode=True))
    root = read_yaml(document).root
    value = root.get("k") if isinstance(root, Table) else None
    if not isinstance(value, Scalar):
        return
    excerpt = excerpt_of(document, str(value.value), value.place)
    assert excerpt.text == str(value.value)
    for start in range(len(excerpt.text)):
        span = excerpt.stands(Place(excerpt.document.path, excerpt.document.span(start, start + 1))).span
        assert 0 <= document.offset(span.line, span.column) <= document.offset(span.end_line, span.end_column)


def test_variables_stand_where_they_are_used_and_are_written_where_they_are_set() -> None:
    document = Document.of("a.yaml", "k: run --m $M $U\nv: gpt2\n")
    value = scalar(document)
    known: dict[str, Value] = {
        "M": Scalar("gpt2", Place("a.yaml", document.span(20, 24))),
        "U": Unknown("given later"),
    }
    excerpt, held = expanded(
        excerpt_of(document, str(value.value), value.place), re.compile(r"\$(\w)"), lambda match: known[match[1]]
    )
    assert excerpt.text == "run --m gpt2 ${__U}"
    assert [(entry.key, entry.value) for entry in held] == [("__U", known["U"])]
    word = found(excerpt, "gpt2")
    assert document.slice(excerpt.stands(word).span) == "$M"
    written = moved(Scalar("gpt2", word), excerpt)
    assert written.place is not None
    assert document.slice(written.place.span) == "gpt2"
    assert document.slice(excerpt.stands(found(excerpt, "${__U}")).span) == "$U"


def test_places_of_other_documents_stay() -> None:
    document = Document.of("a.yaml", "k: run\n")
    excerpt = joined(document, [Excerpt.of(document, [Piece("run", 3, 6)])] * 2)
    elsewhere = Place("a.yaml", document.span(0, 1))
    assert excerpt.text == "run\nrun"
    assert moved(Scalar("k", elsewhere), excerpt) == Scalar("k", elsewhere)

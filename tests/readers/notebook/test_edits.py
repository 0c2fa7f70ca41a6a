"""Edits of the code change the strings that hold it, and nothing else of the file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.readers.notebook.making import code, markdown, written
from vramlint.readers.notebook import notebook_document, rewritten
from vramlint.text import Document, Edit, Place, edited

IMAGE = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo=\n"}, "metadata": {}}


def document_of(text: str) -> Document:
    document = notebook_document(Document.of("nb.ipynb", text))
    assert isinstance(document, Document)
    return document


def replace(text: str, old: str, new: str) -> str:
    """The file after replacing the only `old` in its code."""
    document = document_of(text)
    start = document.text.index(old)
    edit = Edit(Place("nb.ipynb", document.span(start, start + len(old))), new)
    return rewritten(text, [edit])


def test_only_the_string_of_the_line_changes() -> None:
    text = written(markdown("# é"), code("import x", "a = 1", 'b = "ü"', outputs=[IMAGE]), code("a = 2"))
    assert replace(text, "a = 1", "a = 16") == text.replace('"a = 1\\n"', '"a = 16\\n"')


def test_new_line_is_a_new_string_in_the_style_of_the_others() -> None:
    text = written(code("f(", "    a=1,", ")"))
    after = replace(text, "    a=1,\n", "    a=1,\n    b=2,\n")
    indent = " " * 4
    assert after == text.replace('"    a=1,\\n",', f'"    a=1,\\n",\n{indent}"    b=2,\\n",')
    assert replace(after, "    b=2,\n", "") == text


@pytest.mark.parametrize(
    ("old", "new", "source"),
    [
        ("a = 1\n", "", ["b = 2"]),
        ("\nb = 2", "", ["a = 1"]),
        ("1\nb", "3", ["a = 3 = 2"]),
        ("2", "2\nc = 3", ["a = 1\n", "b = 2\n", "c = 3"]),
        ("a = 1\nb = 2", "", []),
        ("1", "'\"\\\t é'", ["a = '\"\\\t é'\n", "b = 2"]),
    ],
)
def test_lists_stay_lists_of_lines(old: str, new: str, source: list[str]) -> None:
    after = replace(written(code("a = 1", "b = 2")), old, new)
    assert json.loads(after)["cells"][0]["source"] == source


def test_text_stays_text() -> None:
    text = written({**code(), "source": "a = 1\nb = 2\n"})
    assert replace(text, "2", "3\nc = 4") == text.replace("b = 2", "b = 3\\nc = 4")


def test_line_is_added_behind_a_last_line_without_end() -> None:
    document = document_of(written(code("a = 1")))
    edit = Edit(Place("nb.ipynb", document.span(len("a = 1\n"), len("a = 1\n"))), "b = 2\n")
    after = rewritten(written(code("a = 1")), [edit])
    assert json.loads(after)["cells"][0]["source"] == ["a = 1\n", "b = 2"]


def test_empty_cell_takes_text() -> None:
    document = document_of(written(code(), code("x")))
    after = rewritten(written(code(), code("x")), [Edit(Place("nb.ipynb", document.span(0, 0)), "a\nb")])
    assert json.loads(after)["cells"][0]["source"] == ["a\n", "b"]


def test_escapes_and_line_ends_of_the_file_stay() -> None:
    text = '{\r\n "cells": [{"cell_type": "code",\t"source": ["x = \\"\\u003cb\\u003e\\/\\" + 1 # \\ud83d\\ude00"]}]}'
    assert replace(text, "1", "é") == text.replace("+ 1", "+ \\u00e9")


def test_ascii_is_kept_only_by_files_that_keep_it() -> None:
    assert '"x = é"' in replace(written(code("x = 1")), "1", "é")


@pytest.mark.parametrize("span", [(0, 9), (3, 100)])
def test_edit_over_two_cells_is_refused(span: tuple[int, int]) -> None:
    text = written(code("a = 1"), code("b = 2"))
    document = document_of(text)
    with pytest.raises(ValueError, match="cells"):
        rewritten(text, [Edit(Place("nb.ipynb", document.span(*span)), "")])


def test_overlapping_edits_are_refused() -> None:
    text = written(code("abcdef"))
    document = document_of(text)
    with pytest.raises(ValueError, match="overlapping"):
        rewritten(text, [Edit(Place("nb.ipynb", document.span(*span)), "") for span in ((0, 3), (2, 4))])


def test_what_is_no_notebook_is_refused() -> None:
    with pytest.raises(ValueError, match="no notebook"):
        rewritten("[]", [])


lines = st.text(alphabet='ab\n\r\\"é😀\t<\u2028', max_size=12)
sources = lines | st.lists(lines, max_size=5) | lines.map(lambda text: text.splitlines(keepends=True))
notebooks = st.lists(
    st.fixed_dictionaries(
        {"cell_type": st.sampled_from(["code", "markdown"]), "source": sources},
        optional={"outputs": st.lists(lines), "metadata": st.dictionaries(lines, lines)},
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def edited_notebooks(draw: st.DrawFn) -> tuple[str, list[Edit]]:
    """A file and edits of it, each within a cell."""
    layout: dict[str, Any] = {"indent": draw(st.none() | st.integers(0, 2)), "ensure_ascii": draw(st.booleans())}
    text = json.dumps({"cells": draw(notebooks), "nbformat": 4}, **layout)
    document = document_of(text)
    edits: list[Edit] = []
    starts = [document.line_starts[cell.first_line - 1] for cell in document.cells]
    sizes = [len("".join(cell["source"])) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    for start, size in zip(starts, sizes, strict=True):
        cuts = sorted(draw(st.lists(st.integers(0, size), unique=True, max_size=4)))
        for one, other in zip(cuts[::2], cuts[1::2], strict=False):
            span = document.span(start + one, start + other)
            edits.append(Edit(Place("nb.ipynb", span), draw(lines)))
    return text, edits


@given(edited_notebooks())
def test_file_reads_as_its_document_edited_and_all_else_stays(drawn: tuple[str, list[Edit]]) -> None:
    text, edits = drawn
    after = rewritten(text, edits)
    before_cells, after_cells = json.loads(text)["cells"], json.loads(after)["cells"]
    for one, other in zip(before_cells, after_cells, strict=True):
        assert list(one) == list(other)
        assert {**one, "source": 0} == {**other, "source": 0}
        assert type(one["source"]) is type(other["source"])
    document = edited(document_of(text), edits)
    starts = [document.line_starts[cell.first_line - 1] for cell in document.cells]
    sources = ["".join(cell["source"]) for cell in after_cells if cell["cell_type"] == "code"]
    for start, source in zip(starts, sources, strict=True):
        assert document.text[start : start + len(source)] == source
    assert rewritten(text, []) == text


@given(edited_notebooks())
def test_bytes_outside_of_touched_sources_stay(drawn: tuple[str, list[Edit]]) -> None:
    text, edits = drawn
    after = rewritten(text, edits)
    touched = {cell.number for edit in edits if (cell := document_of(text).cell(edit.place.span.line))}

    def rest(content: str) -> list[str]:
        """The file's text around the sources of touched cells."""
        from vramlint.readers.notebook.container import Fault, read_cells

        cells = read_cells(content)
        assert not isinstance(cells, Fault)
        gone = [cell for cell in cells if cell.number in touched]
        bounds = [0, *(bound for cell in gone for bound in (cell.start, cell.end)), len(content)]
        return [content[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]

    assert rest(after) == rest(text)

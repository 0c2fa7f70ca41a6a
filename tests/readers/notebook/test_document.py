"""From the JSON to the document of its code cells."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.readers.notebook.making import code, markdown, opened, written
from vramlint.readers.notebook import notebook_document, read_script
from vramlint.text import Cell, Document
from vramlint.values import Problem


def read(text: str) -> Document | Problem:
    return notebook_document(Document.of("nb.ipynb", text))


def test_code_cells_stand_one_below_the_other() -> None:
    document = opened(markdown("# Title"), code("a = 1", "b = 2"), code(), code("c = 3"))
    assert document.text == "a = 1\nb = 2\n\n\nc = 3\n\n"
    assert [(cell.number, cell.first_line) for cell in document.cells] == [(2, 1), (3, 4), (4, 5)]


def test_cells_know_the_lines_of_the_file() -> None:
    text = written(markdown("x"), code("a = 1", "b = 2"))
    (cell,) = opened(markdown("x"), code("a = 1", "b = 2")).cells
    lines = text.split("\n")
    assert [lines[number - 1].strip() for number in cell.file_lines] == ['"a = 1\\n",', '"b = 2"']


@pytest.mark.parametrize(
    "source", ["a = 1\nb = 2\n", ["a = 1\n", "b = 2\n"], ["a = ", "1\nb", " = 2", "\n"], ["a = 1\nb = 2\n", ""]]
)
def test_source_is_text_or_a_list_of_pieces(source: str | list[str]) -> None:
    document = opened({**code(), "source": source})
    assert document.text == "a = 1\nb = 2\n\n"
    assert len(document.cells[0].file_lines) == 2


def test_older_notebooks_have_worksheets() -> None:
    cell = {"cell_type": "code", "language": "python", "input": ["x = 1"], "outputs": []}
    other = {"cell_type": "code", "language": "ruby", "input": ["x = 2"], "outputs": []}
    title = {"cell_type": "heading", "source": ["t"]}
    content = {"worksheets": [{"cells": [title, other, cell]}], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}
    document = read(json.dumps(content))
    assert isinstance(document, Document)
    assert document.text == "x = 1\n\n"
    assert document.cells == (Cell(3, 1, (1,)),)


@pytest.mark.parametrize(
    ("metadata", "is_python"),
    [
        ({}, True),
        ({"kernelspec": {"name": "python3", "display_name": "Python 3"}}, True),
        ({"kernelspec": {"language": "python", "name": "my-venv"}}, True),
        ({"language_info": {"name": "python"}, "kernelspec": None}, True),
        ({"language_info": {"name": "R"}}, False),
        ({"kernelspec": {"language": "julia", "name": "julia-1.10"}}, False),
    ],
)
def test_other_kernels_are_not_read(metadata: dict[str, object], is_python: bool) -> None:
    assert bool(opened(code("x = 1"), **metadata).cells) is is_python


def test_cell_of_another_language_is_not_read() -> None:
    sql = code("SELECT 1", metadata={"vscode": {"languageId": "sql"}})
    assert [cell.number for cell in opened(sql, code("x = 1")).cells] == [2]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("[]", 1),
        ('{"cells": [\n{"source": 3}]}', 2),
        ('{"cells": [\n\n{"source": "x" "y"}]}', 3),
        ('{"cells": []} x', 1),
        ('{"cells": [{"source": ["a\\q"]}]}', 1),
        ('{"a": ' + "[" * 200_000, 1),
        ('{"cells" []}', 1),
        ("{3: 1}", 1),
    ],
)
def test_what_is_no_notebook_is_a_problem(text: str, line: int) -> None:
    problem = read(text)
    assert isinstance(problem, Problem)
    assert problem.kind == "syntax-error"
    assert problem.place.span.line == line


def test_byte_order_mark_is_stepped_over() -> None:
    document = read("\ufeff" + written(code("x = 1")))
    assert isinstance(document, Document)
    assert document.text == "x = 1\n\n"


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["cells", "source", "metadata", "x"]), inner),
)
sources = st.text() | st.lists(st.text(alphabet="ab\n\r\\'\"%!{}$#é😀 =("))
cells = st.fixed_dictionaries(
    {"cell_type": st.just("code"), "source": sources}, optional={"metadata": values, "outputs": values}
)


@given(st.fixed_dictionaries({"cells": st.lists(cells | values)}, optional={"metadata": values}) | values, st.data())
def test_never_raises_and_keeps_every_line(content: object, data: st.DataObject) -> None:
    text = json.dumps(content, indent=data.draw(st.none() | st.integers(0, 2)), ensure_ascii=data.draw(st.booleans()))
    document = read(text)
    if isinstance(document, Document):
        program = read_script(document).program
        assert program.text.count("\n") == document.text.count("\n")
        lengths = [len(line) for line in program.text.split("\n") if line != "if 1:"]
        assert sum(lengths) <= len(document.text)


@given(st.text())
def test_never_raises_on_text(text: str) -> None:
    read(text)

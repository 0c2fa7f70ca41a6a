from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.text import Cell, Document, Edit, Place, Span, apply_edits, edited

TEXTS = st.text(alphabet="aé😀 \n\r\t", max_size=40)


@given(TEXTS, st.data())
def test_positions_and_offsets_are_inverse(text: str, data: st.DataObject) -> None:
    document = Document.of("f", text)
    offset = data.draw(st.integers(0, len(text)))
    line, column = document.position(offset)
    assert document.offset(line, column) == offset
    assert column == len(text[:offset].rpartition("\n")[2]) + 1
    end = data.draw(st.integers(offset, len(text)))
    assert document.slice(document.span(offset, end)) == text[offset:end]


@given(TEXTS)
def test_lines_are_those_between_line_feeds(text: str) -> None:
    document = Document.of("f", text)
    for number, content in enumerate(text.split("\n"), start=1):
        assert document.line(number) == content.removesuffix("\r")
    assert document.line(0) == document.line(text.count("\n") + 2) == ""


def edit(document: Document, start: int, end: int, replacement: str) -> Edit:
    return Edit(Place(document.path, document.span(start, end)), replacement)


def test_edits_in_any_order_and_insertions() -> None:
    document = Document.of("f", "bf16 = False\r\nbatch = 8\n")
    edits = [edit(document, 22, 23, "4"), edit(document, 7, 12, "True"), edit(document, 0, 0, "# é\n")]
    assert apply_edits(document, edits) == "# é\nbf16 = True\r\nbatch = 4\n"
    assert apply_edits(document, []) == document.text


def test_touching_edits_are_fine_and_overlapping_ones_are_not() -> None:
    document = Document.of("f", "abcd")
    assert apply_edits(document, [edit(document, 0, 2, "x"), edit(document, 2, 4, "y")]) == "xy"
    with pytest.raises(ValueError, match="overlapping"):
        apply_edits(document, [edit(document, 0, 3, "x"), edit(document, 2, 4, "y")])


def test_an_edit_of_another_file_is_refused() -> None:
    with pytest.raises(ValueError, match="other"):
        apply_edits(Document.of("f", "a"), [Edit(Place("other", Span(1, 1, 1, 2)), "b")])


NOTEBOOK = Document.of("nb.ipynb", "a\nb\n\nc\nd\n", (Cell(2, 1), Cell(5, 4)))


@pytest.mark.parametrize(("line", "number"), [(1, 2), (3, 2), (4, 5), (9, 5)])
def test_lines_lie_in_cells(line: int, number: int) -> None:
    cell = NOTEBOOK.cell(line)
    assert cell is not None
    assert cell.number == number


def test_scripts_have_no_cells() -> None:
    assert Document.of("a.py", "x\n").cell(1) is None


@pytest.mark.parametrize(
    ("span", "replacement", "first"),
    [
        (Span(1, 2, 1, 2), "\nx\ny", 6),
        (Span(1, 1, 2, 1), "", 3),
        (Span(2, 1, 2, 2), "x", 4),
        (Span(4, 1, 4, 2), "x\ny", 4),
    ],
)
def test_cells_move_with_the_lines_above_them(span: Span, replacement: str, first: int) -> None:
    changed = edited(NOTEBOOK, [Edit(Place("nb.ipynb", span), replacement)])
    assert [cell.first_line for cell in changed.cells] == [1, first]
    assert changed.line(first) in ("c", "x")


@pytest.mark.parametrize(
    ("text", "ends"),
    [("", ["\n", "\n"]), ("a\r\nb\nc", ["\r\n", "\n", "\n"]), ("\na\r\n", ["\n", "\r\n", "\r\n", "\r\n"])],
)
def test_a_line_ends_as_it_does_or_as_the_one_before(text: str, ends: list[str]) -> None:
    document = Document.of("f", text)
    assert [document.line_end(number + 1) for number in range(len(ends))] == ends

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.text import Document, Edit, Place, Span, apply_edits

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

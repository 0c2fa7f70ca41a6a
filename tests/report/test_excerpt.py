"""Carets stand under what they mean, whatever the line holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.findings import Finding, Label, Severity
from vramlint.report import excerpt
from vramlint.report.style import Style
from vramlint.text import Document, Place, Span


def draw(text: str, *spans: tuple[int, int, str]) -> list[str]:
    """Excerpt of a one-line document with labels from column to column."""
    labels = tuple(
        Label(Place("a.py", Span(1, start, 1, end)), words, primary=index == 0)
        for index, (start, end, words) in enumerate(spans)
    )
    finding = Finding("VRAM999", "odd", Severity.ERROR, "no", labels)
    return excerpt.draw(finding, {"a.py": Document.of("a.py", text)}, Style())


@pytest.mark.parametrize(
    ("text", "span", "carets"),
    [
        ("x = 8", (5, 6), "    ^"),
        ("\tx = 8", (6, 7), "        ^"),
        ("名 = 8", (5, 6), "     ^"),
        ("'名前'", (2, 4), " ^^^^"),
        ("e\u0301 = 8", (6, 7), "    ^"),
        ("x", (2, 2), " ^"),
        ("x", (9, 12), " ^"),
        ("a\x1b[31mb", (7, 8), "      ^"),
    ],
    ids=["ascii", "tab", "wide", "wide span", "combining", "empty at end", "past the end", "escape"],
)
def test_carets(text: str, span: tuple[int, int], carets: str) -> None:
    assert draw(text, (*span, ""))[3] == f"  | {carets}"


def test_control_characters_never_reach_the_terminal() -> None:
    shown = "\n".join(draw("a\x1b[31m\u202eb\x07\x9b", (1, 2, "evil \x1b[0m")))
    assert all(character == "\n" or character.isprintable() for character in shown)


def test_several_labels_on_one_line() -> None:
    assert draw("one two three", (5, 8, "second"), (1, 4, "first"), (9, 14, "third"))[2:-1] == [
        "1 | one two three",
        "  | --- ^^^ ----- third",
        "  | |   |",
        "  | |   second",
        "  | first",
    ]


def test_long_lines_are_cut_around_the_label() -> None:
    text = "a" * 5000 + "HERE" + "b" * 5000
    lines = draw(text, (5001, 5005, "this"))
    source, carets = lines[2], lines[3]
    assert len(source) < 200
    assert source[carets.index("^") : carets.rindex("^") + 1] == "HERE"


def test_a_missing_document_leaves_the_place() -> None:
    finding = Finding(
        "VRAM999", "odd", Severity.ERROR, "no", (Label(Place("b", Span(3, 1, 3, 2)), "gone", primary=True),)
    )
    assert excerpt.draw(finding, {}, Style()) == [" --> b:3:1", "  = gone", "  |"]


_TEXT = st.text(st.characters(exclude_characters="\n\r"), max_size=250)


@given(_TEXT, st.lists(st.tuples(st.integers(1, 260), st.integers(0, 30), st.text(max_size=5)), min_size=1, max_size=4))
def test_never_fails_and_stays_printable(text: str, spans: list[tuple[int, int, str]]) -> None:
    lines = draw(text, *((start, start + length, words) for start, length, words in spans))
    assert all(line.isprintable() for line in lines)

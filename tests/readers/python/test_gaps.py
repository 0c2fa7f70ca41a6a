"""Parentheses, keywords and line ends between expressions."""

from __future__ import annotations

import pytest

from vramlint.readers.python.gaps import (
    Unsupported,
    after_header,
    behind_blank,
    behind_closing,
    behind_comments,
    count_closing,
    count_opening,
    token,
)


def test_blanks_are_white_space_comments_and_continued_lines() -> None:
    text = "a  # b\n \\\n\t(c"
    assert text[behind_blank(text, 1)] == "("
    assert behind_blank(text, len(text)) == len(text)


def test_parentheses_are_counted_up_to_something_else() -> None:
    text = "( # a\n(b) )) + c)"
    b = text.index("b")
    assert count_opening(text, 0, b) == 2
    assert count_closing(text, b + 1) == 3
    assert behind_closing(text, b + 1, len(text)) == text.index(" +")
    assert behind_closing(text, b + 1, b + 2) == b + 2


def test_a_keyword_stands_behind_comments_and_semicolons() -> None:
    text = "a;  # else\n\n# else\nelse: b"
    assert text[token(text, 1, "else") :] == "else: b"
    with pytest.raises(Unsupported):
        token(text, 1, "finally")


def test_a_block_begins_behind_its_header_and_ends_behind_its_comments() -> None:
    text = "if a:  # b\n\n    # c\n    d\n    # e\n\n    # f\n\n# g\nh\n"
    assert after_header(text, text.index("    d")) == text.index("\n    # c")
    assert behind_comments(text, text.index("    # e"), "    ", len(text)) == text.index("\n# g")
    assert after_header("a\n", 0) == 0
    assert behind_comments("a\n", 2, "    ", 2) == 2

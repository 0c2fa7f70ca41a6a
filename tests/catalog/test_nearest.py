"""Did-you-mean."""

from __future__ import annotations

import pytest

from vramlint.catalog import nearest


@pytest.mark.parametrize(
    ("word", "choices", "expected"),
    [
        ("rtx3900", ("rtx3050", "rtx3090"), ("rtx3090", "rtx3050")),
        ("VRAM10l", ("VRAM810", "VRAM101"), ("VRAM101", "VRAM810")),
        ("A1OO", ("a100", "t4"), ()),
        ("H1O0", ("h100", "t4"), ("h100",)),
    ],
    ids=["a swap before a replacement", "by name at last", "too far", "case does not count"],
)
def test_order(word: str, choices: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert nearest(word, choices) == expected


def test_no_more_than_asked_for() -> None:
    assert nearest("rtx3090", ("rtx3080", "rtx3070"), count=1) == ("rtx3070",)

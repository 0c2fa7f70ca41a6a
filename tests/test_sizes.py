"""Sizes of memory as people write them."""

from __future__ import annotations

import pytest

from vramlint.sizes import parse_size

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512GiB", 512 * GIB),
        ("512 GB", 512 * GIB),
        ("1.5t", 1536 * GIB),
        ("2TiB", 2048 * GIB),
        ("64000M", 64000 << 20),
        ("", None),
        ("512", None),
        ("0GiB", None),
        ("-1GiB", None),
        ("GiB", None),
        ("1e3GiB", None),
        ("٣GiB", None),
    ],
)
def test_a_size(text: str, size: int | None) -> None:
    assert parse_size(text) == size

"""Colours of the terminal."""

from __future__ import annotations

from itertools import groupby
from types import MappingProxyType

from msgspec import Struct

_CODES = MappingProxyType(
    {
        "error": "1;31",
        "warning": "1;33",
        "info": "1;36",
        "frame": "1;34",
        "strong": "1",
        "faint": "2",
        "good": "1;32",
        "bad": "31",
        "bar": "34",
    }
)
"""SGR parameters by role."""


class Style(Struct, frozen=True):
    """Paints text by role, or leaves it plain."""

    color: bool = False

    def __call__(self, role: str, text: str) -> str:
        """`text` in the colour of `role`; an empty role is plain."""
        if not (self.color and role and text):
            return text
        return f"\x1b[{_CODES[role]}m{text}\x1b[0m"

    def cells(self, cells: list[tuple[str, str]]) -> str:
        """Single characters with a role each, neighbours of one role painted together."""
        return "".join(
            self(role, "".join(character for character, _ in run))
            for role, run in groupby(cells, key=lambda cell: cell[1])
        ).rstrip()

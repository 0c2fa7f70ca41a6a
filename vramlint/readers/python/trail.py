"""What is remembered beside the program itself: why it is where it is, and by which places in the script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from vramlint.text import Place

if TYPE_CHECKING:
    import libcst as cst

    from vramlint.readers.python.objects import Function


class Branch(Struct):
    """A branch whose condition values from elsewhere decided."""

    by: tuple[Place, ...]
    """Where those values are written."""
    taken: tuple[Place, ...] = ()
    skipped: set[str] = field(default_factory=set)
    """What the other side calls, assigns, passes and names."""
    functions: dict[Function, frozenset[str]] = field(default_factory=dict)
    """The file's functions that it calls, and the same of these."""


class Trail(Struct):
    """Places that explain calls and values."""

    deciding: list[tuple[Place, ...]] = field(default_factory=list)
    """Where the values are written that decided the branches around this point, innermost last."""
    loops: list[Place] = field(default_factory=list)
    """What the loops around this point go over."""
    branches: dict[tuple[cst.CSTNode, bool], Branch | None] = field(default_factory=dict)
    """Branches by how their condition came out; None: nothing from elsewhere decided it."""
    chosen: dict[Place, tuple[Place, ...]] = field(default_factory=dict)
    """Where the settings are written that chose a value, or from which it was computed, by the value's place."""
    files: dict[str, Place] = field(default_factory=dict)
    """Data files that were loaded, and where their paths are written."""
    passed: dict[tuple[Place, str], dict[Place, None]] = field(default_factory=dict)
    """Where values are passed on, by the place where they are written and the keyword; of a first argument empty."""
    settings: set[Place] = field(default_factory=set)
    """Where values are written that surely are settings."""
    spare: set[int] = field(default_factory=set)
    """Functions by identity that nothing in the files calls."""

"""What is remembered beside the program itself: why it is where it is, and by which places in the script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vramlint.text import Place
from vramlint.values import Decision

if TYPE_CHECKING:
    import libcst as cst


@dataclass(slots=True)
class Trail:
    """Places that explain calls and values."""

    deciding: list[tuple[Place, ...]] = field(default_factory=list)
    """Where the settings are written that decided the branches around this point, innermost last."""
    loops: list[Place] = field(default_factory=list)
    """What the loops around this point go over."""
    branches: dict[tuple[cst.CSTNode, bool], Decision | None] = field(default_factory=dict)
    """Branches by how their condition came out; None: no setting decided it."""
    chosen: dict[Place, tuple[Place, ...]] = field(default_factory=dict)
    """Where the settings are written that chose a value, or from which it was computed, by the value's place."""
    files: dict[str, Place] = field(default_factory=dict)
    """Data files that were loaded, and where their paths are written."""
    passed: dict[tuple[Place, str], dict[Place, None]] = field(default_factory=dict)
    """Where values are passed on, by the place where they are written and the keyword; of a first argument empty."""

"""What a renderer knows besides the report."""

from __future__ import annotations

from msgspec import Struct


class RuleInfo(Struct, frozen=True):
    """The papers of a rule, for formats that carry them."""

    code: str
    name: str
    severity: str
    summary: str
    help: str = ""
    """Markdown: what, why and trade-off."""
    tags: tuple[str, ...] = ()


class View(Struct, frozen=True):
    """How to show a report."""

    color: bool = False
    rules: tuple[RuleInfo, ...] = ()
    """Every rule that ran."""
    version: str = ""
    """vramlint's own version."""
    unsafe: bool = False
    """Unsafe fixes count as fixes."""
    root: str = ""
    """Absolute folder that paths are shown relative to in formats that want repository-relative ones."""

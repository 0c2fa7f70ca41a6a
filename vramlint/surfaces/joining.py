"""Edits of several changes made one set of edits."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.text import Edit, Place

_APART = (",", "\n", "\r", " --", " \\")
"""How insertions begin that need no comma before them."""


def joined_edits(edits: Sequence[Edit]) -> tuple[Edit, ...] | None:
    """Insertions at one and the same place joined into one edit, in order; None where replacements contradict."""
    joined: dict[Place, str] = {}
    for edit in edits:
        span = edit.place.span
        before = joined.get(edit.place, "")
        if (span.line, span.column) != (span.end_line, span.end_column):
            if before and before != edit.replacement:
                return None
            joined[edit.place] = edit.replacement
            continue
        # into an empty call, where nothing before the keyword asks for a comma
        apart = not before or before.rstrip(" ").endswith((",", "\n")) or edit.replacement.startswith(_APART)
        joined[edit.place] = f"{before}{'' if apart else ', '}{edit.replacement}"
    return tuple(Edit(place, text) for place, text in joined.items())

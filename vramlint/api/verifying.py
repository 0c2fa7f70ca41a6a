"""Edits are offered only when the edited files, read again, need what the plan promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from vramlint.findings import Finding, Fix
from vramlint.text import Document, Edit, edited

Reestimate = Callable[[Mapping[str, Document]], int | None]
"""The peak in bytes of the same run when these documents take the place of the files; None when it is no run."""

_TOLERANCE = 100
"""The plan's peak and that of the edited files may differ by a hundredth: edits say a fact in the files' own words."""


def verified(finding: Finding, documents: Mapping[str, Document], reestimate: Reestimate) -> Finding:
    """The finding, its fix without edits unless they do what it says."""
    fix = finding.fix
    if fix is None or not any(step.edits for step in fix.steps):
        return finding
    edited = edit([change for step in fix.steps for change in step.edits], documents)
    peak = reestimate(edited) if edited else None
    if peak is not None and _as_promised(peak, fix, finding):
        return finding
    return replace(finding, fix=replace(fix, steps=tuple(replace(step, edits=()) for step in fix.steps)))


def edit(edits: Iterable[Edit], documents: Mapping[str, Document]) -> dict[str, Document] | None:
    """The changed documents by path; None when edits overlap or belong to a file that isn't there."""
    groups: dict[str, list[Edit]] = {}
    for change in edits:
        groups.setdefault(change.place.path, []).append(change)
    try:
        return {path: edited(documents[path], group) for path, group in groups.items()}
    except (KeyError, ValueError):
        return None


def _as_promised(peak: int, fix: Fix, finding: Finding) -> bool:
    """Whether the peak is that of the plan, or, when only some of its steps can be edited, lower than before."""
    if all(step.edits for step in fix.steps):
        return abs(peak - fix.peak) * _TOLERANCE <= fix.peak
    return finding.estimate is not None and peak < finding.estimate.device_low

"""Edits are offered only when the edited files, read again, do what is promised and nothing worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from vramlint.findings import Change, Finding, Fix, Step
from vramlint.text import Document, Edit, edited


class Trial(Struct, frozen=True):
    """What is found in a run."""

    peak: int | None
    """Bytes that a GPU needs at the most; None where there is no figure."""
    findings: tuple[Finding, ...]


Retry = Callable[[Mapping[str, Document]], Trial | None]
"""The same run when these documents take the place of the files; None when it is no run, or they cannot be read."""

_TOLERANCE = 100
"""The peak of the edited files may be above the plan's by a hundredth: edits say a fact in the files' own words. It may
be lower: a batch of one sequence, say, needs no padding."""


def verified(finding: Finding, before: Trial, documents: Mapping[str, Document], retry: Retry) -> Finding:
    """The finding, its fix without edits unless they do what it says, and with no other finding in its place.

    Where only some of its steps are safe, these are tried by themselves too, then fewer of them (`Change.alone`).

    Args:
        finding: one of `before`.
        before: the run as it is.
        documents: the files by path.
        retry: reads the run again.
    """
    fix = finding.fix
    steps = tuple(step for step in fix.steps if step.edits) if fix is not None else ()
    if fix is None or not steps:
        return finding
    after = _tried(steps, documents, retry)
    if after is None or not _keeps_promise(after, fix, finding, before):
        return without_edits(finding)
    if isinstance(fix, Fix) and all(step.edits for step in fix.steps) and after.peak is not None:
        fix = _reread(fix, after.peak)
        finding = replace(finding, fix=fix)
    safe = tuple(step for step in steps if step.sure)
    if len(safe) == len(steps):
        return finding
    for count in range(len(safe), 0, -1):
        part = _tried(safe[:count], documents, retry)
        if part is not None and _helps(part, finding, before):
            return replace(finding, fix=replace(fix, alone=safe[:count]))
    return finding


def without_edits(finding: Finding) -> Finding:
    """The finding with a fix that is shown, and not made."""
    fix = finding.fix
    if fix is None:
        return finding
    return replace(finding, fix=replace(fix, steps=tuple(replace(step, edits=()) for step in fix.steps), alone=()))


def edit(edits: Iterable[Edit], documents: Mapping[str, Document]) -> dict[str, Document] | None:
    """The changed documents by path; None when edits overlap or belong to a file that isn't there."""
    groups: dict[str, list[Edit]] = {}
    for change in dict.fromkeys(edits):
        groups.setdefault(change.place.path, []).append(change)
    try:
        return {path: edited(documents[path], group) for path, group in groups.items()}
    except (KeyError, ValueError):
        return None


def worse(after: Iterable[Finding], before: Iterable[Finding], fixed: Sequence[Finding]) -> tuple[str, ...]:
    """Codes that are found more often than before, but for what is left of a misfit.

    A run that exceeded its GPU may be close to the limit afterwards: of the findings about memory a milder one may
    come in the place of a fixed one.
    """
    more = Counter(finding.code for finding in after)
    more.subtract(finding.code for finding in before)
    ranks = [finding.severity.rank for finding in fixed if finding.estimate is not None]
    milder = {item.code for item in after if item.estimate is not None and ranks and item.severity.rank <= max(ranks)}
    left = len(ranks)
    found: list[str] = []
    for code, count in sorted(more.items()):
        if count > 0 and code in milder and count <= left:
            left -= count
        elif count > 0:
            found.append(code)
    return tuple(found)


def _tried(steps: Sequence[Step], documents: Mapping[str, Document], retry: Retry) -> Trial | None:
    changed = edit([change for step in steps for change in step.edits], documents)
    return retry(changed) if changed else None


def _keeps_promise(after: Trial, fix: Change, finding: Finding, before: Trial) -> bool:
    """Whether the peak is that of the plan, or, when only some of its steps can be edited, lower than before."""
    whole = all(step.edits for step in fix.steps)
    if whole and isinstance(fix, Fix):
        missed = after.peak is None or (after.peak - fix.peak) * _TOLERANCE > fix.peak
        return not missed and _helps(after, finding, before)
    return _helps(after, finding, before)


def _helps(after: Trial, finding: Finding, before: Trial) -> bool:
    """Whether the peak falls, or of what is not about memory the finding goes, and nothing else comes."""
    if before.peak is not None and (after.peak is None or after.peak > before.peak):
        return False
    if worse(after.findings, before.findings, (finding,)):
        return False
    if isinstance(finding.fix, Fix):
        return before.peak is not None and after.peak is not None and after.peak < before.peak
    return _count(after, finding.code) < _count(before, finding.code)


def _reread(fix: Fix, peak: int) -> Fix:
    """The fix with the peak of the edited files; what its last step saves makes up the difference."""
    *steps, last = fix.steps
    last = replace(last, saves=last.saves + fix.peak - peak)
    return replace(fix, steps=(*steps, last), peak=peak)


def _count(trial: Trial, code: str) -> int:
    return sum(finding.code == code for finding in trial.findings)

"""Fixes made: round after round, until nothing is left that may be fixed.

A round takes the findings in their order and makes the edits of each that disagree with none before; the others come
in the next round, after everything was read and estimated again. What makes anything worse anywhere (another rule that
fires, a peak that rises, a job that is gone) is taken back. Nothing is written here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from vramlint.api.verifying import worse
from vramlint.findings import Finding, Fix, JobReport, Report
from vramlint.fixes import applying
from vramlint.text import Edit
from vramlint.values import Problem

ROUNDS = 100
"""Rounds after which fixes count as endless; as many as ruff makes (crates/ruff_linter/src/linter.rs)."""


class Disk(Struct, frozen=True):
    """The files as they are."""

    load: Callable[[str], bytes | None]
    """The bytes of a file; None where there is none."""
    identity: Callable[[str], str]
    """What is the same for all paths of one file."""
    form: Callable[[str], str]
    """The written form of a path."""


Check = Callable[[Mapping[str, bytes]], Report]
"""Reads and estimates everything; these bytes, by identity, in the place of what the files hold."""


class Made(Struct, frozen=True):
    """One fix that was made."""

    code: str
    name: str
    path: str
    """Of the finding's primary place."""
    description: str
    """`optim="adamw_bnb_8bit"`, of all steps."""
    peaks: tuple[int, int] | None = None
    """Of a misfit whose plan was made whole: bytes that a GPU needs before and after."""


class Fixed(Struct, frozen=True):
    """What came of fixing."""

    report: Report
    """Of the files as they are then."""
    changed: Mapping[str, bytes]
    """The new bytes of every file that changes, by one of its paths."""
    made: tuple[Made, ...] = ()
    failed: tuple[Problem, ...] = ()
    """Edits that could not be made in their file."""
    settled: bool = True
    """Nothing is left to fix; False where the rounds did not come to an end."""


_Offer = tuple[Finding, tuple[Edit, ...]]


def fix(check: Check, disk: Disk, *, unsafe: bool, rounds: int = ROUNDS) -> Fixed:
    """Make the fixes of what `check` finds.

    Args:
        check: the linter over all files in question.
        disk: the files as they are.
        unsafe: make unsafe fixes too.
        rounds: the most that are made.
    """
    fixer = _Fixer(check, disk, unsafe)
    for _ in range(rounds):
        if not fixer.round():
            return fixer.outcome(settled=True)
        if fixer.repeats():
            break
    return fixer.outcome(settled=not fixer.offers())


class _Fixer:
    def __init__(self, check: Check, disk: Disk, unsafe: bool) -> None:
        self._check = check
        self._disk = disk
        self._unsafe = unsafe
        self._first = self._report = check({})
        self._changed: dict[str, bytes] = {}
        self._names: dict[str, str] = {}
        """Identities to the paths by which files are called."""
        self._made: list[Made] = []
        self._failed: dict[str, Problem] = {}
        self._refused: set[tuple[Edit, ...]] = set()
        self._seen: set[tuple[tuple[str, bytes], ...]] = {()}

    def round(self) -> bool:
        """Make what can be made at once; False where nothing is left."""
        offers = self.offers()
        waiting = [_chosen(offers)] if offers else []
        while waiting:
            group = waiting.pop()
            if self._make(group):
                return True
            if len(group) == 1:
                self._refused.add(group[0][1])
            else:
                waiting += [group[len(group) // 2 :], group[: len(group) // 2]]
        return bool(offers)

    def repeats(self) -> bool:
        """Whether the files are as they were before: fixes that undo each other."""
        state = tuple(sorted(self._changed.items()))
        known = state in self._seen and bool(self._made)
        self._seen.add(state)
        return known

    def offers(self) -> list[_Offer]:
        """The findings that may be fixed, in order, with their edits; each file by one name."""
        paths: dict[str, str] = {}
        for path in self._report.documents:
            paths[path] = self._names.setdefault(self._disk.identity(path), path)
        found = []
        for finding in sorted(self._report.findings, key=lambda item: (item.place, item.code)):
            edits = finding.fix.edits(unsafe=self._unsafe) if finding.fix is not None else ()
            edits = tuple(dict.fromkeys(_called(edit, paths) for edit in edits))
            if edits and edits not in self._refused:
                found.append((finding, edits))
        return found

    def outcome(self, *, settled: bool) -> Fixed:
        """Everything that was made."""
        changed = {
            self._names[identity]: data
            for identity, data in sorted(self._changed.items())
            if data != self._disk.load(self._names[identity])
        }
        before, after = (Counter(item.code for item in one.findings) for one in (self._first, self._report))
        report = replace(self._report, fixed=(before - after).total())
        return Fixed(report, changed, tuple(self._made), tuple(self._failed.values()), settled)

    def _make(self, group: Sequence[_Offer]) -> bool:
        """Make the edits of some findings together, unless that makes anything worse."""
        names = {path: self._names[self._disk.identity(path)] for path in self._report.documents}
        documents = {names[path]: replace(one, path=names[path]) for path, one in self._report.documents.items()}
        made = applying.apply([edit for _, edits in group for edit in edits], documents, self._load, self._disk.form)
        if isinstance(made, Problem):
            if len(group) == 1:
                self._failed[made.place.path] = made
            return False
        changed = {**self._changed, **{self._disk.identity(path): data for path, data in made.items()}}
        after = self._check(changed)
        if not made or _is_worse(after, self._report, [finding for finding, _ in group]):
            return False
        self._made += [_told(finding, unsafe=self._unsafe) for finding, _ in group]
        self._changed, self._report = changed, after
        return True

    def _load(self, path: str) -> bytes | None:
        data = self._changed.get(self._disk.identity(path))
        return self._disk.load(path) if data is None else data


def _called(edit: Edit, paths: Mapping[str, str]) -> Edit:
    path = edit.place.path
    return edit._replace(place=edit.place._replace(path=paths.get(path, path)))


def _chosen(offers: Sequence[_Offer]) -> list[_Offer]:
    """The findings of which no edit disagrees with one before: where one edit is of several, it is made once."""
    taken: dict[str, list[Edit]] = {}
    chosen: list[_Offer] = []
    for finding, edits in offers:
        if any(_disagree(edit, other) for edit in edits for other in taken.get(edit.place.path, ())):
            continue
        chosen.append((finding, edits))
        for edit in edits:
            taken.setdefault(edit.place.path, []).append(edit)
    return chosen


def _disagree(one: Edit, other: Edit) -> bool:
    """Whether two edits of a file touch: the second is then made on what the first leaves."""
    if one == other:
        return False
    first, second = one.place.span, other.place.span
    apart = (first.end_line, first.end_column) < (second.line, second.column)
    return not apart and (second.end_line, second.end_column) >= (first.line, first.column)


def _is_worse(after: Report, before: Report, fixed: Sequence[Finding]) -> bool:
    """Whether anything is worse than before, in a file or a job, those included in which nothing was to be fixed."""
    if len(after.jobs) != len(before.jobs):
        return True
    pairs = list(zip(after.jobs, before.jobs, strict=True))
    told = {new.path for new, old in pairs if _is_declared(new, old)}
    left = [item for item in after.findings if item.place.path not in told]
    found, had, aimed = (_by_path(findings) for findings in (left, before.findings, fixed))
    if any(worse(items, had.get(path, ()), aimed.get(path, ())) for path, items in found.items()):
        return True
    return any(_has_grown(new, old) for new, old in pairs if not _is_declared(new, old))


def _is_declared(new: JobReport, old: JobReport) -> bool:
    """Whether a job is held against a device for the first time: what does not go with it then did not before."""
    return old.gpu is None and new.gpu is not None


def _by_path(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.place.path, []).append(finding)
    return groups


def _has_grown(new: JobReport, old: JobReport) -> bool:
    if old.status == "checked" != new.status:
        return True
    if old.high is None:
        return False
    return new.high is None or new.high.device_need > old.high.device_need


def _told(finding: Finding, *, unsafe: bool) -> Made:
    fix = finding.fix
    steps = fix.taken(unsafe=unsafe) if fix is not None else ()
    peaks = None
    if isinstance(fix, Fix) and len(steps) == len(fix.steps) and finding.estimate is not None:
        peaks = finding.estimate.device_need, fix.peak
    description = ", ".join(step.description for step in steps)
    return Made(finding.code, finding.name, finding.place.path, description, peaks)

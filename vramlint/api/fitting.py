"""`fit`: the plans with which the jobs of files fit their GPUs, each of them applied, read and simulated again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.api.atlas import Atlas
from vramlint.api.checking import Checker
from vramlint.api.contents import Contents
from vramlint.api.declared import Declared
from vramlint.api.judging import Simulate, closed_facts, report_on, write_changes
from vramlint.api.maximizing import explained, maximized
from vramlint.api.planning import Planning
from vramlint.api.source import Each, Surroundings, in_turn
from vramlint.api.subject import LAUNCHERS, Subject
from vramlint.discovery import SourceFile
from vramlint.engine.selection import RuleSet
from vramlint.estimate import Estimate
from vramlint.fixes.ways import MOST_PLANS
from vramlint.job import Job
from vramlint.plans import FitReport, Fitting
from vramlint.resolve.run import Run
from vramlint.settings import Settings
from vramlint.text import Document

GIB = 2**30
NEAR = 0.9
"""Part of the most that tensors need from which a job may turn out to need most with its segments."""


class Request(NamedTuple):
    """What is asked for."""

    allowed: frozenset[str] = frozenset()
    """What plans may change besides: names of `fixes.axes.ALLOWANCES`."""
    headroom: float | None = None
    """Fraction of the usable memory to stay within; None: that of the settings."""
    job: str = ""
    """The name of a job, or a part that only one has; empty: all of them."""
    number: int = 0
    """The plan that is to be made, so that it has to be clear of which job; 0: none."""
    most: int = 0
    """Plans that are looked for; 0: as many as are shown."""
    maximize: str = ""
    """A name of `fixes.largest.SETTINGS`."""
    why_not: str = ""
    """A name of a change."""


class AmbiguousJobError(ValueError):
    """No job, or several, have the name that was asked for."""


class _Found(NamedTuple):
    subject: Subject
    contents: Contents
    """What the file says that the run was found in."""
    run: Run


class Fitter(Checker):
    """Gathers the jobs of files, and plans for them."""

    def __init__(self, settings_of: Callable[[str], Settings], surroundings: Surroundings, request: Request) -> None:
        super().__init__(settings_of, lambda _: RuleSet(()), surroundings)
        self._request = request
        self._runs: list[_Found] = []

    def _judge_run(self, subject: Subject, contents: Contents, position: tuple[int, int], run: Run) -> None:
        del position
        self._runs.append(_Found(subject, contents, run))

    def fitted(self, tell: Callable[[Fitting], None] | None = None, each: Each = in_turn) -> FitReport:
        """The jobs that were asked for, each with its plans.

        Args:
            tell: is given each of several jobs as soon as it is planned for, where a GPU is declared.
            each: plans for jobs that are simulated alike, for one such group after the other or for several at once.

        Raises:
            AmbiguousJobError: `Request.job` names none of them, or several.
        """
        chosen = self._chosen()
        told = len(chosen) > 1 and any(found.run.gpu is not None for found in chosen)
        groups = _alike(chosen)
        done: dict[int, Fitting] = {}
        jobs: list[Fitting] = []
        pieces = each(lambda piece: tuple(self._fit(chosen[number]) for number in groups[piece]), len(groups))
        for numbers, planned in zip(groups, pieces, strict=True):
            done |= zip(numbers, planned, strict=True)
            while len(jobs) in done:
                jobs.append(done[len(jobs)])
                if told and tell is not None:
                    tell(jobs[-1])
        return FitReport(tuple(jobs), self._documents)

    def runs(self) -> tuple[Run, ...]:
        """The runs that were asked for.

        Raises:
            AmbiguousJobError: as `fitted`.
        """
        return tuple(found.run for found in self._chosen())

    @property
    def documents(self) -> dict[str, Document]:
        """The files that were read, by path."""
        return self._documents

    def _chosen(self) -> Sequence[_Found]:
        used = {path for _, _, run in self._runs if run.kind != "data" for path in run.paths}
        runs = [found for found in self._runs if found.run.kind != "data" or found.run.path not in used]
        trained = [found for found in runs if found.run.kind in ("training", "data")] or runs
        name = self._request.job
        if self._request.number and not name and len(trained) > 1:
            raise AmbiguousJobError(f"several jobs, choose one with --job: {_names(trained)}")
        if not name:
            return trained
        same = [found for found in trained if found.run.name == name]
        part = same or [found for found in trained if name in found.run.name]
        if len(part) != 1:
            many = "several jobs are" if part else "no job is"
            raise AmbiguousJobError(f"{many} called {name!r}: {_names(part or trained)}")
        return part

    def _fit(self, found: _Found) -> Fitting:
        subject, _, run = found
        simulate: Simulate = self._simulate
        headroom = self._request.headroom or subject.settings.headroom
        estimates = _played(run.jobs, simulate)
        worst = max(range(len(estimates)), key=lambda index: estimates[index].device_need, default=None)
        report = report_on(run, estimates)
        if report.status != "checked" or run.gpu is None or worst is None:
            reason = report.reason or ("" if run.gpu is None else "no job could be built")
            return Fitting(run.name, run.path, "unresolved", run.gpu.name if run.gpu else "", reason=reason)
        if estimates[worst].method != "simulated":
            least = f"at least {estimates[worst].device_low / GIB:.2f} GiB"
            reason = f"{estimates[worst].why or 'the figure is only a lower bound'}; it needs {least}"
            return Fitting(run.name, run.path, "unresolved", run.gpu.name, reason=reason)
        planning = Planning(
            run,
            run.jobs[worst],
            run.gpu,
            simulate,
            partial(write_changes, run, documents=self._documents),
            partial(self._played_again, found),
            int(headroom * run.gpu.usable_bytes),
            self._documents,
            closed_facts(run),
            self._request.allowed,
            self._request.most or self._request.number or MOST_PLANS,
            _on_one_machine(subject.declared),
        )
        if self._request.maximize:
            known = planning.known()
            return replace(known, largest=maximized(planning, self._request.maximize))
        known = planning.fitting()
        return (
            replace(known, why_not=explained(planning, self._request.why_not, known))
            if self._request.why_not
            else known
        )

    def _played_again(self, found: _Found, edited: Mapping[str, Document], most: int) -> Estimate | None:
        jobs = self._jobs_again(found.subject, found.contents, found.run.name, edited)
        return _worst_again(jobs, found.run.jobs, self._simulate, most)


def _on_one_machine(declared: Declared) -> int:
    """GPUs of the one machine that is declared; 0 where several are, or nothing is said."""
    return declared.world_size or 0 if declared.nodes in (None, 1) else 0


def _played(jobs: Sequence[Job], simulate: Simulate, most: int | None = None) -> tuple[Estimate, ...]:
    """The estimates of all jobs that a run may be, those that may need most with the allocator's segments.

    Where the tensors of one surely need more than `most` bytes, it is the only one, without segments.
    """
    tensors: list[Estimate] = []
    for job in jobs:
        tensors.append(simulate(job, reserved=False, limit=most))
        if most is not None and tensors[-1].device_need > most:
            return tuple(tensors[-1:])
    near = NEAR * max((estimate.device_need for estimate in tensors), default=0)
    return tuple(
        simulate(job) if estimate.device_need >= near else estimate for job, estimate in zip(jobs, tensors, strict=True)
    )


def _worst_again(jobs: Sequence[Job], before: Sequence[Job], simulate: Simulate, most: int) -> Estimate | None:
    """The estimate of that job of edited files which needs most; see `_played`.

    Those that the run was `before` are simulated already: they come first.
    """
    estimates = _played(sorted(jobs, key=lambda job: job not in before), simulate, most)
    return max(estimates, key=lambda estimate: estimate.device_need, default=None)


def _alike(chosen: Sequence[_Found]) -> list[list[int]]:
    """The numbers of jobs that are simulated alike, as those of a loop over learning rates are, together."""
    groups: dict[str, list[int]] = {}
    for number, found in enumerate(chosen):
        groups.setdefault(repr(found.run.jobs), []).append(number)
    return list(groups.values())


def _names(found: Sequence[_Found]) -> str:
    return ", ".join(each.run.name for each in found)


def fit_files(
    files: Sequence[SourceFile],
    settings_of: Callable[[str], Settings],
    surroundings: Surroundings,
    request: Request,
    tell: Callable[[Fitting], None] | None = None,
    each: Each = in_turn,
) -> FitReport:
    """The plans for the jobs of files.

    Args:
        files: what holds the jobs; files that they name are loaded through `surroundings`.
        settings_of: hardware, versions and declared facts, by path.
        surroundings: the outside world.
        request: which jobs, and what plans may change.
        tell: as of `Fitter.fitted`.
        each: as of `Fitter.fitted`.

    Raises:
        UnknownGpuError: the command line or the settings name a GPU that the catalog lacks.
        AmbiguousJobError: `request.job` names no job, or several.
    """
    return opened(files, settings_of, surroundings, request).fitted(tell, each)


def opened(
    files: Sequence[SourceFile],
    settings_of: Callable[[str], Settings],
    surroundings: Surroundings,
    request: Request,
) -> Fitter:
    """The jobs of files, read and not yet planned for; see `fit_files`."""
    fitter = Fitter(settings_of, surroundings, request)
    subjects = [subject for file in files if (subject := fitter.open(file))]
    referrers = Atlas(surroundings.around, surroundings.load).referrers(files)
    subjects += [subject for file in referrers if (subject := fitter.open(file, given=False))]
    alone = surroundings.alone
    fitter.judge(sorted(subjects, key=lambda item: (alone and not item.given, item.file.form not in LAUNCHERS)))
    return fitter

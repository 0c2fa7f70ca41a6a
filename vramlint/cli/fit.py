"""`vramlint fit FILE`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from vramlint import __version__
from vramlint.api import UnknownGpuError
from vramlint.api.fitting import AmbiguousJobError, Request, fit_files
from vramlint.cli.errors import CLEAN, FINDINGS, UsageError, did_you_mean
from vramlint.cli.output import write
from vramlint.cli.processes import each_of
from vramlint.cli.terminal import use_color
from vramlint.cli.work import Gathered, gathered
from vramlint.discovery import decode
from vramlint.discovery.forms import form_of
from vramlint.plans import FitReport, Fitting, Offer, Plan
from vramlint.report import edits
from vramlint.report.view import View
from vramlint.text import Document


def run(options: Namespace) -> int:
    """Print the plans for the jobs of a file, or make one. Exits with 1 where a job has none."""
    _check(options)
    offers = _offers(options)
    found = gathered(options, [options.path])
    request = Request(
        frozenset(options.allow or ()),
        options.headroom,
        options.job or "",
        options.apply or int(options.diff),
        maximize=options.maximize or "",
        why_not=options.why_not or "",
    )
    printer = _Printer(options) if _is_told_at_once(options) else None
    try:
        if len(offers) > 1:
            from vramlint.api.offers import fit_offers

            report = fit_offers(found.files, found.settings_of, found.around, request, offers)
        else:
            report = fit_files(found.files, found.settings_of, found.around, request, printer, each_of)
    except UnknownGpuError as error:
        raise UsageError(str(error)) from None
    except AmbiguousJobError as error:
        raise UsageError(f"{options.path}: {error}") from None
    _complain(options, found, report)
    if options.apply is not None or options.diff:
        return _make(options, found, report)
    if printer is None or not printer.printed:
        if options.format == "json":
            from vramlint.report import fit_json as form
        else:
            from vramlint.report import fit as form  # type: ignore[no-redef]
        write(form.render(options.path, report, _view(options)), options.output_file)
    good = all(job.status in ("fits", "plans", "tight") for job in report.jobs)
    return CLEAN if good else FINDINGS


class _Printer:
    """Prints one job after the other as soon as it is planned for: a launcher may have a dozen."""

    def __init__(self, options: Namespace) -> None:
        self.printed = 0
        self._options = options

    def __call__(self, job: Fitting) -> None:
        from vramlint.report.fit import render

        text = render(self._options.path, FitReport((job,), {}), _view(self._options))
        sys.stdout.write(f"\n{text}" if self.printed else text)
        sys.stdout.flush()
        self.printed += 1


def _is_told_at_once(options: Namespace) -> bool:
    """Whether what is found is printed as text, and nothing is asked that all jobs together decide."""
    together = options.diff or options.apply is not None or options.maximize
    return not together and options.format != "json" and not options.output_file


def _view(options: Namespace) -> View:
    stream = None if options.output_file else sys.stdout
    return View(color=use_color(options.color, stream, os.environ), version=__version__)


def _offers(options: Namespace) -> tuple[Offer, ...]:
    """The machines of `--gpu`; `options.gpu` is that of one, and empty where there are several.

    Raises:
        UsageError: a price is no number, or something else is asked that has one answer for one machine.
    """
    offers = []
    for word in options.gpu or ():
        name, at, price = word.rpartition("@")
        try:
            offers.append(Offer(name, float(price)) if at else Offer(word))
        except ValueError:
            raise UsageError(f"--gpu: {price!r} is no price of an hour such as 2.50") from None
    several = len(offers) > 1
    for option in ("maximize", "why_not") if several else ():
        if getattr(options, option):
            raise UsageError(f"--{option.replace('_', '-')} is about one GPU; --gpu names {len(offers)}")
    options.gpu = offers[0].gpu if offers and not several else ""
    return tuple(offers)


def _check(options: Namespace) -> None:
    """Names that only the fixes know: they are looked up when a command needs them.

    Raises:
        UsageError: one is not known.
    """
    from vramlint.fixes.axes import ALLOWANCES, option_names

    for word in options.allow or ():
        if word not in ALLOWANCES:
            raise UsageError(f"--allow: {word!r} is none of {', '.join(ALLOWANCES)}{did_you_mean(word, ALLOWANCES)}")
    name = options.why_not
    if name and name not in option_names():
        raise UsageError(f"--why-not: no change is called {name!r}{did_you_mean(name, option_names(), 0.5)}")


def _complain(options: Namespace, found: Gathered, report: FitReport) -> None:
    """Raises: UsageError: nothing can be planned."""
    if found.problems:
        raise UsageError(f"{options.path}: {found.problems[0].message}")
    if not report.jobs:
        raise UsageError(f"{options.path}: no training run found; `vramlint explain` says what is read")
    gpus = [job for job in report.jobs if job.status != "unresolved" or job.gpu]
    if not gpus:
        raise UsageError(f"{options.path}: no GPU is declared: give --gpu, such as --gpu rtx3090 or --gpu h100x8")
    if len(report.jobs) == 1 and report.jobs[0].status == "unresolved" and options.format != "json":
        raise UsageError(f"{options.path}: cannot be planned: {report.jobs[0].reason}")
    if options.maximize and all(job.largest is None and job.status != "unresolved" for job in report.jobs):
        raise UsageError(f"--maximize: {report.jobs[0].name} has no {options.maximize}")


def _make(options: Namespace, found: Gathered, report: FitReport) -> int:
    """Make a plan, or show the difference that it makes."""
    from vramlint.cli.writing import write_all
    from vramlint.fixes.applying import apply
    from vramlint.values import Problem

    plan = _chosen(options, report)
    left = [change.description for change in plan.changes if change.by_hand]
    changed = apply(plan.edits, report.documents, found.around.load)
    if isinstance(changed, Problem):
        raise UsageError(f"{changed.place.path}: {changed.message}")
    if options.diff:
        text = "".join(_difference(path, data, found) for path, data in changed.items())
        write(text, options.output_file)
    else:
        write_all(changed)
        sys.stderr.write("".join(f"changed {path}\n" for path in changed))
    if left:
        sys.stderr.write("".join(f"left to you: {words}\n" for words in left))
    return FINDINGS if left else CLEAN


def _chosen(options: Namespace, report: FitReport) -> Plan:
    """The plan that was asked for.

    Raises:
        UsageError: there is none.
    """
    job, number = report.jobs[0], options.apply or 1
    plans = job.plans if job.largest is None else (job.largest.plan,) if job.largest.plan else ()
    if not plans:
        fits = "it fits as it is" if job.status == "fits" else "nothing fits"
        raise UsageError(f"{options.path}: no plan to make: {fits}")
    if number > len(plans):
        raise UsageError(f"--apply: there are {len(plans)} plans, no plan {number}")
    plan = plans[number - 1]
    if not plan.changes:
        raise UsageError(f"{options.path}: no plan to make: it fits {plan.gpu} as it is")
    if not plan.edits:
        words = "; ".join(change.description for change in plan.changes)
        raise UsageError(f"{options.path}: no file has a place for plan {number}: {words}")
    return plan


def _difference(path: str, after: bytes, found: Gathered) -> str:
    form = next((file.form for file in found.files if file.path == path), form_of(path))
    documents = [decode(path, content, form) for content in (found.around.load(path) or b"", after)]
    before, changed = documents
    return edits.render(before, changed) if isinstance(before, Document) and isinstance(changed, Document) else ""

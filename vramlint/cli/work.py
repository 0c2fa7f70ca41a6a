"""What `check` and `explain` share: settings, rules and files from disk, then the core."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vramlint.api import Hardware, SourceFile, Surroundings, UnknownGpuError, lint
from vramlint.api.simulating import Simulator
from vramlint.api.source import Done
from vramlint.cli import disk
from vramlint.cli.disk import load, names, repository
from vramlint.cli.errors import UsageError
from vramlint.cli.known import known_of
from vramlint.cli.processes import each_of
from vramlint.cli.projects import Projects
from vramlint.discovery import discover
from vramlint.discovery.forms import form_of
from vramlint.discovery.walk import most_bytes
from vramlint.engine.selection import RuleSet, UnknownRuleError
from vramlint.findings import Report
from vramlint.settings import Settings
from vramlint.values import Problem

STDIN = "-"
FILES = 8
"""Files that are worth a process of their own, which takes about as long to start as one of them to judge."""


class Outcome(Struct, frozen=True):
    """What came of checking some paths."""

    report: Report
    rules: RuleSet
    """The rules that ran."""
    fail_on: str
    strict: bool
    notes: tuple[str, ...]
    """Lines for standard error."""


def check_paths(
    options: Namespace,
    paths: Sequence[str],
    *,
    thorough: bool = False,
    timeline: bool = False,
    alone: bool | None = None,
) -> Outcome:
    """Find the files behind `paths`, check them.

    Args:
        options: those of the command line.
        paths: files and folders.
        thorough: with the allocator's segments and rules of thumb for every run.
        timeline: with the log of the step.
        alone: each file by itself, whatever starts it; None where it is thorough.

    Raises:
        UsageError: a settings file, a rule or a GPU that isn't as it should be.
    """
    work = Work(options, paths, thorough=thorough, timeline=timeline, alone=alone)
    return work.outcome(work.check({}))


class Work:
    """The files behind some paths, and what holds for them.

    Raises:
        UsageError: a settings file, a rule or a GPU that isn't as it should be.
    """

    def __init__(
        self,
        options: Namespace,
        paths: Sequence[str],
        *,
        thorough: bool = False,
        timeline: bool = False,
        alone: bool | None = None,
    ) -> None:
        disk.forget()
        self._projects = projects = Projects(options)
        self.settings: Settings = projects.settings_of(paths[0])
        """Of the first path."""
        self._found = found = _gather(options, paths, projects)
        self._given = {disk.identity(file.path): file for file in found.files}
        standard = options.stdin_filename or STDIN if STDIN in paths else None
        self._editable = disk.Editable(paths, standard, projects.settings_of)
        alone = thorough if alone is None else alone
        around = _surroundings(options, thorough=thorough, timeline=timeline, alone=alone)
        self._around = around._replace(load=self.load, simulate=Simulator(), editable=self._editable, each=_judged)
        self._known = known_of(options, self.settings)
        self.stale: tuple[str, ...] = ()
        """Lines about known findings that the last check did not find."""

    def check(self, changed: Mapping[str, bytes]) -> Report:
        """The report on the files, these bytes in the place of what files hold; by `disk.identity` of their paths."""
        files = [replace(file, data=changed.get(disk.identity(file.path), file.data)) for file in self._found.files]

        def read(path: str) -> bytes | None:
            data = changed.get(disk.identity(path)) if changed else None
            return self.load(path) if data is None else data

        around = self._around._replace(load=read)
        projects = self._projects
        try:
            report = lint(files, projects.settings_of, projects.rules_of, around, self._found.problems)
        except (UnknownGpuError, UnknownRuleError) as error:
            raise UsageError(str(error)) from None
        report = replace(report, files_skipped=report.files_skipped + self._found.skipped)
        if self._known is None:
            return report
        kept = self._known.left_out(report, (rule.code for rule in self._rules().rules))
        self.stale = kept.lines
        return kept.report

    def _rules(self) -> RuleSet:
        home = self.settings
        try:
            return self._projects.rules_of(home).choose(home.select, home.ignore, home.severity)
        except UnknownRuleError as error:
            raise UsageError(str(error)) from None

    def outcome(self, report: Report) -> Outcome:
        """The report with what the settings say of it."""
        home = self.settings
        notes = (*self._found.notes, *self.stale)
        return Outcome(report, self._rules(), home.fail_on.value, home.strict, notes)

    def load(self, path: str) -> bytes | None:
        """The bytes of a file as it is: of a given one those that were read, standard input's among them."""
        file = self._given.get(disk.identity(path))
        return load(path) if file is None else file.data

    def form(self, path: str) -> str:
        """The written form of a file."""
        file = self._given.get(disk.identity(path))
        return form_of(path) if file is None else file.form


def _judged(work: Callable[[int], Done], count: int) -> Iterable[Done]:
    """What comes of judging each of so many files, where they are many in several processes."""
    return each_of(work, count, FILES)


def settings_here(options: Namespace) -> Settings:
    """The settings of the project in the current folder.

    Raises:
        UsageError: a settings file that isn't as it should be.
    """
    return Projects(options).settings_of(os.curdir)


class Gathered(NamedTuple):
    """Files, and what lies around them."""

    files: tuple[SourceFile, ...]
    problems: tuple[Problem, ...]
    settings_of: Callable[[str], Settings]
    around: Surroundings


def gathered(options: Namespace, paths: Sequence[str]) -> Gathered:
    """The files behind `paths`, for a command that needs no rules.

    Raises:
        UsageError: a settings file that isn't as it should be.
    """
    disk.forget()
    projects = Projects(options)
    found = _gather(options, paths, projects)
    return Gathered(found.files, found.problems, projects.settings_of, _surroundings(options, alone=True))


def _surroundings(
    options: Namespace, *, thorough: bool = False, timeline: bool = False, alone: bool = False
) -> Surroundings:
    hardware = Hardware(options.gpu or "", options.gpus_per_node, options.nodes, options.ram or "", options.nvme or "")
    return Surroundings(
        load, names, repository, hardware, disk.around, os.path.abspath, thorough, timeline, alone=alone
    )


def all_rules(options: Namespace) -> RuleSet:
    """Every rule of the project in the current folder."""
    projects = Projects(options)
    return projects.rules_of(projects.settings_of(os.curdir))


class _Found(NamedTuple):
    files: tuple[SourceFile, ...]
    problems: tuple[Problem, ...]
    skipped: int
    notes: tuple[str, ...]


def _gather(options: Namespace, paths: Sequence[str], projects: Projects) -> _Found:
    """All files; standard input for `-`. Each group of paths is walked under its own project's exclusions."""
    files: dict[str, SourceFile] = {}
    problems: list[Problem] = []
    skipped = 0
    force_exclude = getattr(options, "force_exclude", False)
    if STDIN in paths:
        file = _standard_input(options)
        files[file.path] = file
    for settings, group in projects.grouped(path for path in paths if path != STDIN):
        found = discover(group, settings, force_exclude=force_exclude)
        files |= {file.path: file for file in found.files}
        problems += found.problems
        skipped += found.skipped.total
    kept = tuple(files.values())
    if force_exclude:
        from vramlint.discovery.prefilter import may_train

        kept = tuple(file for file in kept if may_train(file.form, file.data))
    problems = [replace(item, kind="unreadable-file") if item.kind == "unknown-form" else item for item in problems]
    notes = [f"read {file.path}" for file in kept] if getattr(options, "verbose", False) else []
    return _Found(kept, tuple(problems), skipped + len(files) - len(kept), tuple(notes))


def _standard_input(options: Namespace) -> SourceFile:
    name = options.stdin_filename or STDIN
    most = most_bytes(form_of(name))
    data = sys.stdin.buffer.read(most + 1)
    if len(data) > most:
        raise UsageError(f"standard input is larger than {most // 1_000_000} MB")
    form = form_of(name) or ("json" if data.lstrip()[:1] == b"{" else "python")
    return SourceFile(name, form, data, explicit=True)

"""Works through the files of one call: read, resolve, simulate, judge; then suppressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from vramlint.api.declared import Declared, declare
from vramlint.api.judging import judge
from vramlint.api.probes import Answers, machine_answers
from vramlint.api.reading import Contents, read, read_directives
from vramlint.api.source import Surroundings
from vramlint.api.verifying import verified
from vramlint.discovery import SourceFile, decode
from vramlint.discovery.forms import form_of
from vramlint.engine.check import check_problems, check_remarks, unique
from vramlint.engine.rule import Rule
from vramlint.engine.selection import RuleSet
from vramlint.engine.suppression import suppress
from vramlint.estimate import Estimate
from vramlint.findings import Finding, JobReport, Report
from vramlint.job import Job
from vramlint.readers.comments import Directive
from vramlint.resolve import libraries_of, resolve
from vramlint.resolve.context import Context, find_module
from vramlint.settings import Settings
from vramlint.text import Document
from vramlint.values import Problem

SettingsOf = Callable[[str], Settings]
RulesOf = Callable[[Settings], RuleSet]

_CHECKED_FORMS = ("python", "notebook", "json", "yaml")
"""Forms whose comments speak to vramlint; requirements and settings files are read for versions only."""


def _simulate(job: Job, *, reserved: bool = True, log: bool = False) -> Estimate:
    from vramlint.memory import simulate

    return simulate(job, reserved=reserved, log=log)


def _answers(path: str, context: Context) -> Answers:
    """What a script at `path` may ask at run time, as far as the declared machine and the versions say."""
    return Answers(machine_answers(context.gpu, context.world_size, context.nodes), lambda: libraries_of(path, context))


class Checker:
    """Gathers findings and jobs of one file after the other."""

    def __init__(self, settings_of: SettingsOf, rules_of: RulesOf, surroundings: Surroundings) -> None:
        self._settings_of = settings_of
        self._rules_of = rules_of
        self._around = surroundings
        self._findings: list[Finding] = []
        self._jobs: list[tuple[JobReport, tuple[str, ...]]] = []
        self._documents: dict[str, Document] = {}
        self._directives: dict[str, tuple[Directive, ...]] = {}
        self._every: dict[str, Rule] = {}
        self._active: dict[str, Rule] = {}
        self._checked = 0
        self._skipped = 0

    def add_problem(self, problem: Problem) -> None:
        """Report a file that could not even be given as bytes."""
        self._findings += check_problems([problem], self._rules(self._settings_of(problem.place.path)))

    def add(self, file: SourceFile) -> None:
        """Check one file."""
        settings = self._settings_of(file.path)
        rules = self._rules(settings)
        document = decode(file.path, file.data, file.form)
        if isinstance(document, Problem):
            self._findings += check_problems([document], rules)
            return
        self._keep(document, file.form, rules)
        declared = declare(self._around.hardware, self._directives[document.path], settings)
        self._findings += check_remarks(declared.remarks, rules)
        context = self._context(file, declared, settings, rules)
        contents = read(document, file.form, _answers(file.path, context), partial(find_module, file.path, context))
        if not contents.recognised:
            self._skipped += 1
            return
        self._findings += check_problems(contents.problems, rules)
        self._checked += 1
        self._judge_all(file, contents, context, settings, rules)

    def _rules(self, settings: Settings) -> RuleSet:
        every = self._rules_of(settings)
        active = every.choose(settings.select, settings.ignore, settings.severity)
        self._every |= {rule.code: rule for rule in every.rules}
        self._active |= {rule.code: rule for rule in active.rules}
        return active

    def _keep(self, document: Document, form: str, rules: RuleSet) -> None:
        found, problems = read_directives(document, form if form in _CHECKED_FORMS else "")
        self._documents[document.path] = document
        self._directives[document.path] = found
        self._findings += check_problems(problems, rules)

    def _context(self, file: SourceFile, declared: Declared, settings: Settings, rules: RuleSet) -> Context:
        return Context(
            load=lambda target: self._load(target, rules),
            names=self._around.names,
            root=self._around.root(file.path),
            gpu=declared.gpu,
            gpu_origin=declared.origin,
            world_size=declared.world_size,
            nodes=declared.nodes,
            versions=settings.versions,
            facts=declared.facts,
        )

    def _judge_all(
        self, file: SourceFile, contents: Contents, context: Context, settings: Settings, rules: RuleSet
    ) -> None:
        if not contents.sheets:
            return
        for run in resolve(contents.sheets, context):
            around = self._around
            findings, job = judge(
                run,
                rules,
                self._documents,
                _simulate,
                settings.headroom,
                thorough=around.thorough,
                timeline=around.timeline,
            )
            again = partial(self._reestimate, file, run.name, context)
            self._findings += (verified(finding, self._documents, again) for finding in findings)
            self._jobs.append((job, run.paths))

    def _reestimate(self, file: SourceFile, name: str, context: Context, edited: Mapping[str, Document]) -> int | None:
        """The peak of the run called `name` when edited documents take the place of its files."""
        changed = replace(context, load=lambda target: edited.get(target) or context.load(target))
        document = edited.get(file.path) or self._documents[file.path]
        contents = read(document, file.form, _answers(file.path, changed), partial(find_module, file.path, changed))
        runs = resolve(contents.sheets, changed) if not contents.problems else ()
        jobs = next((run.jobs for run in runs if run.name == name), ())
        return max((_simulate(job, reserved=False).device_low for job in jobs), default=None)

    def _load(self, path: str, rules: RuleSet) -> Document | None:
        """A file that another one names. It is kept, for findings may point into it."""
        if path not in self._documents:
            content = self._around.load(path)
            form = form_of(path)
            document = None if content is None else decode(path, content, form)
            if not isinstance(document, Document):
                return None
            self._keep(document, form, rules)
        return self._documents[path]

    def report(self) -> Report:
        """Everything found."""
        directives = [directive for found in self._directives.values() for directive in found]
        active, every = (RuleSet(tuple(rules.values())) for rules in (self._active, self._every))
        rest = suppress(unique(self._findings), directives, active, every)
        return Report(
            findings=rest.findings,
            jobs=self._own_jobs(),
            files_checked=self._checked,
            files_skipped=self._skipped,
            suppressed=rest.count,
            documents=self._documents,
        )

    def _own_jobs(self) -> tuple[JobReport, ...]:
        """The jobs without the configurations that are part of another job here."""
        used = {path for job, paths in self._jobs if job.kind != "data" for path in paths}
        return tuple(job for job, _ in self._jobs if job.kind != "data" or job.path not in used)


def check_files(
    files: Sequence[SourceFile],
    settings_of: SettingsOf,
    rules_of: RulesOf,
    surroundings: Surroundings,
    problems: Sequence[Problem],
) -> Report:
    """Check files one after the other and report on all."""
    checker = Checker(settings_of, rules_of, surroundings)
    for problem in problems:
        checker.add_problem(problem)
    for file in files:
        checker.add(file)
    return checker.report()

"""Works through the files of one call: read, resolve, simulate, judge; then suppressions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from vramlint.api.atlas import Atlas, Concerns, concerns_of
from vramlint.api.contents import Again, Contents
from vramlint.api.declared import Declared, declare
from vramlint.api.judging import judge, outcome, peak_of
from vramlint.api.loading import Idle, Known, with_written
from vramlint.api.probes import Answers, machine_answers
from vramlint.api.reading import read, read_directives
from vramlint.api.readings import Readings
from vramlint.api.simulating import Simulator
from vramlint.api.source import Surroundings
from vramlint.api.subject import LAUNCHERS, Subject
from vramlint.api.verifying import Retry, Trial, verified, without_edits
from vramlint.api.world import World, in_world, world_of
from vramlint.discovery import SourceFile, decode
from vramlint.discovery.forms import form_of
from vramlint.engine.check import check_problems, check_remarks, unique
from vramlint.engine.rule import Rule
from vramlint.engine.selection import RuleSet
from vramlint.engine.suppression import suppress
from vramlint.facts import Remark, Sheet
from vramlint.findings import Finding, JobReport, Report, Step
from vramlint.job import Job
from vramlint.readers.comments import Directive
from vramlint.resolve import libraries_of, resolve
from vramlint.resolve.context import Context
from vramlint.resolve.run import Run
from vramlint.settings import Settings
from vramlint.text import Document
from vramlint.values import Problem

SettingsOf = Callable[[str], Settings]
RulesOf = Callable[[Settings], RuleSet]

_CHECKED_FORMS = ("python", "notebook", "json", "yaml", "toml", "shell", "make", "docker")
"""Forms whose comments speak to vramlint; requirements and settings files are read for versions only."""


_DATA_FORMS = ("json", "yaml", "toml")


def _known(context: Context, idle: Idle, concerns: Concerns | None, readings: Readings, again: Again | None) -> Known:
    """What a script at a path may ask at run time, as far as its machine and the versions say."""

    def answers(path: str, world: World) -> Answers:
        return Answers(machine_answers(world), lambda: libraries_of(path, context))

    return Known(answers, idle, concerns, readings, again)


class _Found(NamedTuple):
    """What judging a file adds."""

    findings: tuple[Finding, ...]
    jobs: tuple[tuple[JobReport, tuple[str, ...]], ...]
    documents: Mapping[str, Document]
    """Files that were loaded meanwhile."""
    directives: Mapping[str, tuple[Directive, ...]]


class Checker:
    """Gathers findings and jobs of one file after the other."""

    def __init__(self, settings_of: SettingsOf, rules_of: RulesOf, surroundings: Surroundings) -> None:
        self._settings_of = settings_of
        self._rules_of = rules_of
        self._around = surroundings
        self._simulate = surroundings.simulate or Simulator()
        self._idle = Idle()
        self._readings = Readings()
        self._concerns: Concerns | None = None
        """What launchers that were not given are followed for; None: everything."""
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
        self._findings += check_problems([problem], self._rules(self._settings_of(problem.place.path)), self._mend)

    def open(self, file: SourceFile, *, given: bool = True) -> Subject | None:
        """Decode a file and find what holds for it; a file that can't be decoded is reported."""
        settings = self._settings_of(file.path)
        rules = self._rules(settings)
        document = decode(file.path, file.data, file.form)
        if isinstance(document, Problem):
            if given:
                self._findings += check_problems([document], rules, self._mend)
            return None
        self._keep(document, file.form, rules)
        declared = declare(self._around.hardware, self._directives[document.path], settings)
        if given:
            self._findings += check_remarks(declared.remarks, rules, self._mend)
        context = self._context(file, declared, settings, rules)
        return Subject(file, document, settings, rules, declared, context, given)

    def judge(self, subjects: Sequence[Subject]) -> None:
        """Check files: all jobs of those that the user gave, of others the jobs that a given file is part of."""
        given = {self._absolute(subject.path) for subject in subjects if subject.given}
        self._concerns = concerns_of([item.file for item in subjects], given, self._absolute)
        read = [(subject, self._read(subject, subject.document, subject.context)) for subject in subjects]
        started = {self._absolute(path) for _, contents in read for path in _started_by(contents)}
        recognised = [contents.recognised for subject, contents in read if subject.given]
        self._checked += sum(recognised)
        self._skipped += len(recognised) - sum(recognised)
        for found in self._around.each(lambda number: self._found(*read[number], started, given), len(read)):
            self._findings += found.findings
            self._jobs += found.jobs
            self._documents |= found.documents
            self._directives |= found.directives

    def _found(self, subject: Subject, contents: Contents, started: Container[str], given: Container[str]) -> _Found:
        """What judging a file adds, nothing of which is kept: this may be another process than the one that reports."""
        findings, jobs, known = len(self._findings), len(self._jobs), len(self._documents)
        self._judge_file(subject, contents, started, given)
        new = tuple(islice(self._documents, known, None))
        found = _Found(
            tuple(self._findings[findings:]),
            tuple(self._jobs[jobs:]),
            {path: self._documents[path] for path in new},
            {path: self._directives[path] for path in new},
        )
        del self._findings[findings:], self._jobs[jobs:]
        return found

    def _judge_file(self, subject: Subject, contents: Contents, started: Container[str], given: Container[str]) -> None:
        if subject.given and contents.recognised:
            findings = check_problems(contents.problems, subject.rules, self._mend)
            self._offer(subject, findings, partial(Trial, None, findings), partial(self._problems_again, subject))
        covered = self._absolute(subject.path) in started and not self._around.alone
        for number, sheet in enumerate(contents.sheets):
            if not covered or _is_apart(sheet):
                self._judge_sheet(subject, contents, number, given)
            elif subject.given and subject.file.form in _DATA_FORMS:
                self._check_keys(subject, contents, number)

    def _problems_again(self, subject: Subject, edited: Mapping[str, Document]) -> Trial | None:
        """What is wrong with a file when edited documents take the place of its own and of those that it names."""
        context = subject.context
        changed = replace(context, load=lambda target: edited.get(target) or context.load(target))
        contents = self._read(subject, edited.get(subject.path) or subject.document, changed)
        return Trial(None, check_problems(contents.problems, subject.rules)) if contents.recognised else None

    def _read(self, subject: Subject, document: Document, context: Context, again: Again | None = None) -> Contents:
        concerns = None if subject.given else self._concerns
        known = _known(context, self._idle, concerns, self._readings, again)
        return read(document, subject.file.form, context, known)

    def _read_again(
        self,
        subject: Subject,
        before: Contents,
        edited: Mapping[str, Document],
        wants: Callable[[int, str], bool],
    ) -> tuple[Contents, Context]:
        """What a file says when edited documents take the place of those on disk, and its surroundings then.

        Args:
            subject: the file.
            before: what it says as it is.
            edited: the documents by path.
            wants: of what it starts, which is wanted; see `Again`.
        """
        context = subject.context
        changed = replace(context, load=lambda target: edited.get(target) or context.load(target))
        # of a file that something is wrong with, the rest may have trouble of its own
        again = None if before.problems or not before.starts else Again(before.starts, wants, edited)
        return self._read(subject, edited.get(subject.path) or subject.document, changed, again), changed

    def _absolute(self, path: str) -> str:
        return self._around.absolute(path)

    def _judge_sheet(self, subject: Subject, contents: Contents, number: int, given: Container[str]) -> None:
        for index, run in enumerate(self._runs_of(subject, contents.sheets[number], subject.context)):
            if subject.given or any(self._absolute(path) in given for path in run.paths):
                self._judge_run(subject, contents, (number, index), run)

    def _runs_of(self, subject: Subject, sheet: Sheet, context: Context) -> tuple[Run, ...]:
        if sheet.defines and not self._around.alone:
            sheet = replace(sheet, facts=tuple(fact for fact in sheet.facts if fact.name != "run_kind"))
        return resolve((sheet,), self._context_of(sheet, subject, context))

    def _check_keys(self, subject: Subject, contents: Contents, number: int) -> None:
        """Arguments in a file that a started script loads: their keys; the figures are those of its jobs."""
        for index, run in enumerate(resolve((contents.sheets[number],), subject.context)):
            findings = check_remarks(run.remarks, subject.rules, self._mend)
            retry = partial(self._retry, subject, contents, (number, index), keys=True)
            self._offer(subject, findings, partial(Trial, None, findings), retry)

    def _judge_run(self, subject: Subject, contents: Contents, position: tuple[int, int], run: Run) -> None:
        """Judge a run, which stands at a position among the sheets of a file and the runs of its sheet."""
        around = self._around
        findings, job = judge(
            run,
            subject.rules,
            self._documents,
            self._simulate,
            subject.settings.headroom,
            thorough=around.thorough,
            timeline=around.timeline,
            mender=self._mend,
        )
        retry = partial(self._retry, subject, contents, position)
        self._offer(subject, findings, partial(self._as_it_is, run, findings), retry)
        self._jobs.append((job, run.paths))

    def _offer(self, subject: Subject, findings: Sequence[Finding], before: Callable[[], Trial], retry: Retry) -> None:
        """Keep findings, with edits where these were tried and the settings and the surroundings allow them."""
        for finding in findings:
            if not finding.fixable(unsafe=True):
                self._findings.append(finding)
            elif self._may_fix(subject, finding):
                self._findings.append(verified(finding, before(), self._documents, retry))
            else:
                self._findings.append(without_edits(finding))

    def _as_it_is(self, run: Run, findings: tuple[Finding, ...]) -> Trial:
        return Trial(peak_of(run, self._simulate), findings)

    def _may_fix(self, subject: Subject, finding: Finding) -> bool:
        settings = subject.settings
        fixable = subject.rules.choose(settings.fixable, settings.unfixable)
        edits = finding.fix.edits(unsafe=True) if finding.fix is not None else ()
        return fixable.find(finding.code) is not None and all(self._around.editable(edit.place.path) for edit in edits)

    def _mend(self, remark: Remark) -> Step | None:
        if remark.repair is None:
            return None
        from vramlint.surfaces.mending import mended

        return mended(remark, self._documents)

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
        self._findings += check_problems(problems, rules, self._mend)

    def _context(self, file: SourceFile, declared: Declared, settings: Settings, rules: RuleSet) -> Context:
        return Context(
            load=lambda target: self._load(target, rules),
            names=self._around.names,
            root=self._around.root(file.path),
            gpu=declared.gpu,
            gpu_origin=declared.origin,
            world_size=declared.world_size,
            nodes=declared.nodes,
            ram=declared.ram,
            nvme=declared.nvme,
            versions=settings.versions,
            kind=settings.kind or "",
            facts=declared.facts,
        )

    def _jobs_again(
        self, subject: Subject, before: Contents, name: str, edited: Mapping[str, Document]
    ) -> tuple[Job, ...]:
        """The jobs of the run called `name` when edited documents take the place of its files.

        None where there is none, or a file can't be read any more.
        """
        if any(problem.place.path not in edited for problem in before.problems):
            return ()  # it stays
        contents, changed = self._read_again(subject, before, edited, lambda _, start: name.startswith(start))
        if contents.problems:
            return ()
        # a run is called as the start of its program is, with more behind
        sheets = (sheet for sheet in contents.sheets if sheet.started is None or name.startswith(sheet.started.name))
        runs = (run for sheet in sheets for run in resolve((sheet,), self._context_of(sheet, subject, changed)))
        return next((run.jobs for run in runs if run.name == name), ())

    def _retry(
        self,
        subject: Subject,
        before: Contents,
        position: tuple[int, int],
        edited: Mapping[str, Document],
        *,
        keys: bool = False,
    ) -> Trial | None:
        """A run when edited documents take the place of its files: with `keys` what is wrong with its keys alone.

        Args:
            subject: its file.
            before: what the file says as it is.
            position: the number of its sheet, and of the run among those of the sheet.
            edited: the documents.
            keys: see above.
        """
        number, index = position
        wanted = before.start_of(number)
        contents, changed = self._read_again(subject, before, edited, lambda start, _: start == wanted)
        if len(contents.problems) > len(before.problems) or len(contents.sheets) != len(before.sheets):
            return None
        sheet = contents.sheets[number]
        runs = resolve((sheet,), changed) if keys else self._runs_of(subject, sheet, changed)
        if index >= len(runs):
            return None
        if keys:
            return Trial(None, check_remarks(runs[index].remarks, subject.rules))
        found = outcome(runs[index], subject.rules, self._simulate, subject.settings.headroom)
        return Trial(peak_of(runs[index], self._simulate), found)

    def _context_of(self, sheet: Sheet, subject: Subject, context: Context) -> Context:
        """The surroundings of one job: what comments in the started script declare, and the files' own machine."""
        if sheet.started is not None and sheet.path != subject.path:
            said = (*self._directives.get(sheet.path, ()), *self._directives[subject.path])
            declared = declare(self._around.hardware, said, subject.settings)
            context = replace(
                context,
                gpu=declared.gpu,
                gpu_origin=declared.origin,
                world_size=declared.world_size,
                nodes=declared.nodes,
                ram=declared.ram,
                nvme=declared.nvme,
                facts=declared.facts,
            )
        if sheet.started is not None and sheet.started.written:
            context = replace(context, load=with_written(context.load, sheet.started.written))
        return in_world(context, world_of(context, sheet.facts))

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
        rest = suppress(unique(self._findings), directives, active, every, self._mend)
        return Report(
            findings=rest.findings,
            jobs=self._own_jobs(),
            files_checked=self._checked,
            files_skipped=self._skipped,
            suppressed=rest.count,
            documents=self._documents,
        )

    def _own_jobs(self) -> tuple[JobReport, ...]:
        """The jobs without the configurations that are part of another job here, unless each file is asked for."""
        if self._around.alone:
            return tuple(job for job, _ in self._jobs)
        used = {path for job, paths in self._jobs if job.kind != "data" for path in paths}
        return tuple(job for job, _ in self._jobs if job.kind != "data" or job.path not in used)


def _started_by(contents: Contents) -> Iterator[str]:
    """The scripts that a launcher's jobs start, Python's and shells', and the files of arguments that they load."""
    for sheet in contents.sheets:
        if sheet.started is not None:
            further = (path for path in sheet.sources if form_of(path) in ("shell", *_DATA_FORMS))
            yield from (path for path in (sheet.path, *further) if path != sheet.started.path)


def _is_apart(sheet: Sheet) -> bool:
    """Whether a job of a script that a launcher starts is another one: Python's that starts programs itself.

    It is not where a file of settings, which the launcher names, stands for the program that takes it.
    """
    return sheet.started is not None and sheet.recognised is None and form_of(sheet.started.path) != "shell"


def check_files(
    files: Sequence[SourceFile],
    settings_of: SettingsOf,
    rules_of: RulesOf,
    surroundings: Surroundings,
    problems: Sequence[Problem],
) -> Report:
    """Check files and the jobs that they are part of, whichever of a job's files they are."""
    checker = Checker(settings_of, rules_of, surroundings)
    for problem in problems:
        checker.add_problem(problem)
    found = Atlas(surroundings.around, surroundings.load).referrers(files)
    subjects = [subject for file in files if (subject := checker.open(file))]
    subjects += [subject for file in found if (subject := checker.open(file, given=False))]
    # launchers come first in a report, and behind a script by itself
    alone = surroundings.alone
    checker.judge(sorted(subjects, key=lambda item: (alone and not item.given, item.file.form not in LAUNCHERS)))
    return checker.report()

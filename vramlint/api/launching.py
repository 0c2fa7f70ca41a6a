"""From the commands that a launcher runs to the sheets of the programs that they start."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vramlint.api.contents import Again, Contents
from vramlint.api.following import Follower
from vramlint.api.loading import Known, Shells
from vramlint.api.scripts import with_scripts
from vramlint.api.starts import Start, called, distinct, names_of
from vramlint.facts import Fact, Sheet
from vramlint.resolve.context import Context
from vramlint.surfaces.launch import Workload, launches
from vramlint.text import Document
from vramlint.values import Problem, Program

MOST = 64
"""Starts of one file that are followed; a benchmark's sweep has more, and its first ones stand for it."""


class Starts(Struct, frozen=True):
    """What a program starts besides what it does itself."""

    sheets: tuple[Sheet, ...]
    problems: tuple[Problem, ...]
    machine: tuple[Fact, ...]
    """What it asks of the machine that its own code runs on."""
    each: tuple[tuple[Sheet, ...], ...]
    """The sheets by start."""


class _Launched(NamedTuple):
    each: tuple[tuple[Sheet, ...], ...]
    problems: tuple[Problem, ...]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """Those of all starts."""
        return tuple(sheet for sheets in self.each for sheet in sheets)


def commands(document: Document, form: str, context: Context, known: Known) -> Contents:
    """The jobs that the commands of a launcher start.

    Args:
        document: a shell script, Makefile, Dockerfile, or YAML or JSON of jobs.
        form: shell, make, docker, yaml or json.
        context: file access, and the declared machine.
        known: answers to what the started scripts ask at run time.
    """
    from vramlint.surfaces.jobfiles import workloads_of_file

    shells = Shells(context.load)
    workloads = workloads_of_file(document, form, shells)
    found = _launched(workloads, context, known, shells)
    sheets, problems = found.sheets, tuple(dict.fromkeys((*shells.problems, *found.problems)))
    return Contents(sheets, problems, recognised=bool(sheets or found.problems), starts=found.each)


def starts_of(
    document: Document, program: Program, context: Context, known: Known, workloads: Sequence[Workload] = ()
) -> Starts:
    """What a Python program starts: on SageMaker and its like, as processes, and in the cells of a notebook.

    Args:
        document: the program's file.
        program: what it does.
        context: file access, and the declared machine.
        known: answers to what the started scripts ask at run time.
        workloads: those of a notebook's cells.
    """
    from vramlint.surfaces.jobfiles import machine_of_program, workloads_of_program
    from vramlint.surfaces.launch.dumps import dumped

    machine = machine_of_program(program)
    shells = Shells(context.load)
    own = workloads_of_program(document, program, shells)
    files = dumped(program, document)
    all_ = [replace(workload, files=(*files, *workload.files)) for workload in (*own, *workloads)]
    found = _launched(all_, context, known, shells)
    return Starts(found.sheets, found.problems, machine, found.each)


def _launched(workloads: Sequence[Workload], context: Context, known: Known, shells: Shells) -> _Launched:
    """The sheets of all programs that the workloads start and that train, or may."""
    scripts = (script for workload in workloads for script in with_scripts(workload, context, shells))
    starts = (Start(*script, launch) for script in scripts for launch in launches(script.workload))
    followed = [
        (start, Follower(start.workload, start.launch, context, known))
        for start in islice(distinct(islice(starts, 16 * MOST)), MOST)
    ]
    concerns = known.concerns
    wanted = [
        concerns is None or concerns.through(start.through) or reader.has_to_do_with(concerns)
        for start, reader in followed
    ]
    pairs = list(zip(followed, wanted, strict=True))
    unread = [start for (start, reader), is_wanted in pairs if not is_wanted and any(wanted) and reader.may_train()]
    again = known.again
    if again is not None and len(again.starts) == len(followed):
        return _again(again, followed, unread, context)
    problems: list[Problem] = []
    found: list[Sheet | None] = []
    for (start, reader), is_wanted in pairs:
        sheet, trouble = _read(start, reader) if is_wanted else (None, ())
        problems += trouble
        found.append(sheet)
    names = iter(
        names_of([start for (start, _), one in zip(followed, found, strict=True) if one], context.load, unread)
    )
    each = (
        tuple(reader.trials(called(sheet, next(names)))) if sheet else ()
        for (_, reader), sheet in zip(followed, found, strict=True)
    )
    return _Launched(tuple(each), tuple(problems))


def _again(
    again: Again, followed: Sequence[tuple[Start, Follower]], unread: Sequence[Start], context: Context
) -> _Launched:
    """What is wanted of starts that were followed before: what others gave then stands, under the names of now."""
    trained = [index for index, sheets in enumerate(again.starts) if sheets]
    names = dict(zip(trained, names_of([followed[index][0] for index in trained], context.load, unread), strict=True))
    wanted = {index for index in trained if again.wants(index, names[index])}
    scripts = {followed[index][1].script_path() for index in wanted}
    problems: list[Problem] = []
    each: list[tuple[Sheet, ...]] = []
    for index, (before, (start, reader)) in enumerate(zip(again.starts, followed, strict=True)):
        path = "" if index in wanted else reader.script_path()
        if index in wanted or (path in again.edited and path not in scripts):  # what was edited may be broken
            sheet, trouble = _read(start, reader)
            problems += trouble
            each.append(tuple(reader.trials(called(sheet, names.get(index, "")))) if sheet else ())
        else:
            each.append(tuple(called(sheet, names[index]) for sheet in before))
    return _Launched(tuple(each), tuple(problems))


def _read(start: Start, reader: Follower) -> tuple[Sheet | None, tuple[Problem, ...]]:
    sheet, problems = reader.sheet()
    return sheet and replace(sheet, sources=(*start.through, *sheet.sources)), problems

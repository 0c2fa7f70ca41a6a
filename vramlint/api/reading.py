"""From one file's text to what its vocabularies say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vramlint.api.contents import Contents
from vramlint.api.launching import commands, starts_of
from vramlint.api.loading import Known, Recorder
from vramlint.api.world import world_of
from vramlint.discovery.prefilter import may_start, runs_by_itself
from vramlint.facts import Sheet, Started
from vramlint.readers.comments import Directive, directives
from vramlint.resolve.context import Context, beside, find_module, folder_of
from vramlint.resolve.executors import Executor, executor_of, is_bare
from vramlint.surfaces.launch import Workload
from vramlint.text import Document, Place, Span
from vramlint.values import Invocation, Problem, Program, Reading, Table

_MODELS = frozenset(("model", "parameters", "parameters_at_least"))
"""Facts that say what is trained."""


def read(document: Document, form: str, context: Context, known: Known) -> Contents:
    """The sheets of one file. Never raises on any content.

    Args:
        document: the file.
        form: its written form, a value of `discovery.forms.FORMS`.
        context: file access, and the declared machine.
        known: answers to what scripts ask at run time.
    """
    match form:
        case "python":
            return _script(document, context, known)
        case "notebook":
            return _notebook(document, context, known)
        case "json" | "yaml":
            return _data(document, form, context, known)
        case _:
            return commands(document, form, context, known)


def read_directives(document: Document, form: str) -> tuple[tuple[Directive, ...], tuple[Problem, ...]]:
    """The directives in a file's comments, and those that are not understood."""
    return directives(document, form) if form else ((), ())


def _script(document: Document, context: Context, known: Known) -> Contents:
    from vramlint.readers.notebook import has_cells

    if has_cells(document.text):
        return _notebook(document, context, known)
    program, sources, problems = _program(document, context, known)
    if program is None:
        return Contents((), problems)
    executor = executor_of(document.path, context) if is_bare(program) else None
    if executor is not None:
        return _executed(executor, document, context, known)
    return _with_starts(document, program, sources, problems, context, known)


def _executed(executor: Executor, settings: Document, context: Context, known: Known) -> Contents:
    """The job of a script that executes a file of settings over its own."""
    from vramlint.surfaces import program_sheet

    program, sources, problems = _program(executor.script, context, known, executor.invocation)
    if program is None:
        return Contents((), problems)
    sheet = program_sheet(program)
    place = Place(settings.path, Span(1, 1, 1, 1))
    started = Started(settings.path, settings.path, place, (folder_of(executor.script.path),))
    return Contents((replace(sheet, sources=sources, started=started),), problems)


def _with_starts(
    document: Document,
    program: Program,
    sources: tuple[str, ...],
    problems: tuple[Problem, ...],
    context: Context,
    known: Known,
    workloads: Sequence[Workload] = (),
) -> Contents:
    """The sheet of a program, and those of the programs that it starts: with SageMaker, as a process."""
    from vramlint.surfaces import program_sheet

    sheet = replace(program_sheet(program), sources=sources)
    sheet = replace(sheet, defines=not _runs(sheet, document, context))
    found = starts_of(document, program, context, known, workloads)
    own = found.machine if sheet.get("gpu") is None else ()
    sheet = replace(sheet, facts=(*sheet.facts, *own))
    return Contents((sheet, *found.sheets), (*problems, *found.problems))


def _runs(sheet: Sheet, document: Document, context: Context) -> bool:
    """Whether a file trains when it is run; definitions alone do not, unless they say which model they are for."""
    if not document.path.endswith(".py") or runs_by_itself(document.text.encode(errors="replace")):
        return True
    said = {fact.name for fact in (*sheet.facts, *context.facts) if fact.candidates}
    return bool(said & _MODELS) or any(name == "model-config" for name, _ in sheet.tables)


def _program(
    document: Document, context: Context, known: Known, invocation: Invocation | None = None
) -> tuple[Program | None, tuple[str, ...], tuple[Problem, ...]]:
    """A program, by default with nothing given on its command line, the files that were read for it, what is wrong."""
    from vramlint.readers.python import read_program

    loaded = Recorder(context.load)
    project = replace(context, load=loaded)
    program, problems = read_program(
        document,
        known(document.path, world_of(context, ())),
        lambda module: find_module(document.path, project, module),
        invocation,
        files=lambda path: next(filter(None, map(loaded, beside(document.path, path))), None),
    )
    return program, tuple(path for path in loaded.found if path != document.path), problems


def _notebook(document: Document, context: Context, known: Known) -> Contents:
    from vramlint.readers.notebook import read_notebook
    from vramlint.readers.shell import read_shell

    notebook = read_notebook(document, read_shell)
    program, sources, problems = _program(notebook.program, context, known)
    problems = tuple(dict.fromkeys((*notebook.problems, *problems)))
    workloads = [Workload(document.path, "", shell.commands, (), notebook.files) for shell in notebook.shell]
    if program is None:
        return Contents((), problems)
    return _with_starts(document, program, sources, problems, context, known, workloads)


def _data(document: Document, form: str, context: Context, known: Known) -> Contents:
    if may_start(form, document.text.encode(errors="replace")):
        found = commands(document, form, context, known)
        if found.recognised:
            return found
    reading = _tree(document, form)
    if not isinstance(reading.root, Table):
        return Contents((), reading.problems, recognised=reading.root is None)
    sheet = _sheet(document.path, reading.root)
    return Contents((sheet,) if sheet else (), reading.problems, recognised=sheet is not None)


def _tree(document: Document, form: str) -> Reading:
    if form == "yaml":
        from vramlint.readers.yaml import read_yaml

        return read_yaml(document)
    from vramlint.readers.json import read_json

    return read_json(document)


def _sheet(path: str, table: Table) -> Sheet | None:
    from vramlint.surfaces.kinds import kind_of_table

    kind = kind_of_table(path, table)
    match kind:
        case None:
            return None
        case "deepspeed-json":
            from vramlint.surfaces.deepspeed import deepspeed_sheet

            return deepspeed_sheet(path, table)
        case "accelerate-config":
            from vramlint.surfaces.accelerate_config import accelerate_sheet

            return accelerate_sheet(path, table)
        case "model-config":
            from vramlint.surfaces.model_config import model_config_sheet

            return model_config_sheet(path, table)
        case _:
            from vramlint.surfaces.training_arguments import training_arguments_sheet

            return training_arguments_sheet(path, table, kind)

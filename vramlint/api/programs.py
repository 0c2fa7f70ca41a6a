"""From Python files and notebooks to the jobs that they are, and those that they start."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from vramlint.api.contents import Contents
from vramlint.api.loading import Known, Recorder, Shells, with_written
from vramlint.api.world import world_of
from vramlint.discovery.prefilter import is_python_config, makes_processes, may_start, runs_by_itself
from vramlint.facts import Sheet, Started
from vramlint.patterns import lazy
from vramlint.resolve.context import Context, ancestors, beside, find_module, folder_of
from vramlint.resolve.executors import Executor, cli_of, executor_of, is_bare
from vramlint.text import Document, Place, Span
from vramlint.values import Entry, Invocation, Problem, Program, Scalar

if TYPE_CHECKING:
    from vramlint.api.trials import Trial
    from vramlint.surfaces.launch import Workload

_MODELS = frozenset(("model", "parameters", "parameters_at_least"))
"""Facts that say what is trained."""


_MARK = lazy(r"(?m)^\ufeff?# ?(?:%%|In\[|Databricks|[ \t]+jupytext)")
"""What every script with cells has somewhere."""
_LAUNCHER = lazy(r"accelerate[ \t]+launch|torchrun|deepspeed")
_HEAD = 8000
"""Characters at the start of a script, in which its usage stands."""


class _Read(NamedTuple):
    """A program as read."""

    program: Program | None
    sources: tuple[str, ...]
    """The other files that were read for it."""
    problems: tuple[Problem, ...]


def script(document: Document, context: Context, known: Known) -> Contents:
    """The job of a Python script with nothing given on its command line, and those that it starts."""
    if _has_cells(document.text):
        return notebook(document, context, known)
    config = _config(document, context, known)
    if config is not None:
        return config
    read = _read(document, context, known)
    if read.program is None:
        return Contents((), read.problems)
    executor = executor_of(document.path, context) if is_bare(read.program) else None
    if executor is not None:
        return _executed(executor, document, context, known)
    return _with_starts(
        document,
        read.program,
        read,
        context,
        known,
        again=lambda trial: _read(document, context, known, chosen=trial).program,
    )


def _config(document: Document, context: Context, known: Known) -> Contents | None:
    """The run of a Python file that is a framework's configuration, and read as one; None for any other."""
    if not is_python_config(document.text.encode(errors="replace")):
        return None
    from vramlint.surfaces.frameworks.python_configs import entry_config, python_config, recipe_config
    from vramlint.surfaces.frameworks.torchtitan_library import registry_sheet
    from vramlint.surfaces.frameworks.torchtune_recipes import recipe_sheet

    library = registry_sheet(document) or recipe_sheet(document)
    if library is not None:
        return Contents((library,), ())
    # without the modules of the project: of the framework's own repository they are the framework
    program, problems = known.readings.read(document, known(document.path, world_of(context, ())))
    ways = (python_config, recipe_config, entry_config)
    config = next((made for way in ways if (made := way(program)) is not None), None) if program is not None else None
    if config is None:
        return None
    return Contents((config.sheet(document.path),), problems)


def _has_cells(text: str) -> bool:
    if _MARK.search(text) is None:  # what reads notebooks is not even loaded for most scripts
        return False
    from vramlint.readers.notebook import has_cells

    return has_cells(text)


def notebook(document: Document, context: Context, known: Known) -> Contents:
    """The job of a notebook's own Python, and those that its cells start."""
    from vramlint.readers.notebook import read_notebook
    from vramlint.readers.shell import read_shell
    from vramlint.surfaces.launch import Workload

    found = read_notebook(document, read_shell)
    files = (*found.files, *(file for shell in found.shell for file in shell.files))
    written = tuple(
        (str(file.name.value), file.document) for file in files if file.document and isinstance(file.name, Scalar)
    )
    project = replace(context, load=with_written(context.load, written))
    read = _read(found.program, project, known, environment=found.environment)
    problems = tuple(dict.fromkeys((*found.problems, *read.problems)))
    if read.program is None:
        return Contents((), problems)
    workloads = [Workload(document.path, "", shell.commands, (), files) for shell in found.shell]
    return _with_starts(
        document,
        read.program,
        read._replace(problems=problems),
        context,
        known,
        workloads,
        again=lambda trial: _read(found.program, project, known, environment=found.environment, chosen=trial).program,
    )


def fitted(settings: Document, context: Context, known: Known) -> Contents | None:
    """The job of the program whose LightningCLI takes a file of settings; None where there is none beside it."""
    executor = cli_of(settings.path, context)
    found = _executed(executor, settings, context, known) if executor is not None else None
    trains = found is not None and any(fact.name == "loop" for sheet in found.sheets for fact in sheet.facts)
    return found if trains else None


def _executed(executor: Executor, settings: Document, context: Context, known: Known) -> Contents:
    """The job of a script that executes a file of settings over its own."""
    read = _read(executor.script, context, known, executor.invocation)
    if read.program is None:
        return Contents((), read.problems)
    sheet = known.readings.sheet(read.program)
    place = Place(settings.path, Span(1, 1, 1, 1))
    started = Started(settings.path, settings.path, place, (folder_of(executor.script.path),))
    return Contents((replace(sheet, sources=read.sources, started=started),), read.problems)


def _with_starts(
    document: Document,
    program: Program,
    read: _Read,
    context: Context,
    known: Known,
    workloads: Sequence[Workload] = (),
    *,
    again: Callable[[Trial], Program | None],
) -> Contents:
    """The sheet of a program, and those of the programs that it starts: with SageMaker, as a process."""
    sheet = replace(known.readings.sheet(program), sources=read.sources)
    sheet = replace(sheet, defines=not _runs(sheet, document, context))
    if document.path.endswith(".py") and _LAUNCHER.search(document.text, 0, _HEAD):
        from vramlint.api.usage import with_usage

        sheet = with_usage(sheet, document, Shells(context.load), sized=context.world_size is not None)
    data = document.text.encode(errors="replace")
    if not workloads and not may_start("python", data) and not makes_processes(data):
        return Contents(_trials(sheet, program, again), read.problems)
    from vramlint.api.launching import starts_of

    found = starts_of(document, program, context, known, workloads)
    own = found.machine if sheet.get("gpu") is None else ()
    sheet = replace(sheet, facts=(*sheet.facts, *own))
    silent = found.sheets and _says_nothing(sheet)
    sheets = found.sheets if silent else (*_trials(sheet, program, again), *found.sheets)
    return Contents(sheets, (*read.problems, *found.problems), starts=found.each)


def _trials(sheet: Sheet, program: Program, again: Callable[[Trial], Program | None]) -> tuple[Sheet, ...]:
    """The trials of a search that the program itself makes, read `again` each; without one, the sheet."""
    if not program.searches:
        return (sheet,)
    from vramlint.api.trials import sheets
    from vramlint.surfaces import program_sheet

    def read(trial: Trial) -> Sheet | None:
        found = again(trial)
        if found is None:
            return None
        one = program_sheet(found)
        besides = tuple(fact for fact in sheet.facts if one.get(fact.name) is None)  # what its launcher says
        return replace(one, facts=(*one.facts, *besides), sources=sheet.sources, defines=sheet.defines)

    return tuple(sheets(sheet, program.searches, read))


def _says_nothing(sheet: Sheet) -> bool:
    """Whether a program does nothing itself that a rule could speak of."""
    kind = sheet.get("run_kind")
    return kind is not None and kind.value == "library" and not (sheet.tables or sheet.remarks)


def _runs(sheet: Sheet, document: Document, context: Context) -> bool:
    """Whether a file trains when it is run; definitions alone do not, unless they say which model they are for."""
    if not document.path.endswith(".py") or runs_by_itself(document.text.encode(errors="replace")):
        return True
    said = {fact.name for fact in (*sheet.facts, *context.facts) if fact.candidates}
    return bool(said & _MODELS) or any(name == "model-config" for name, _ in sheet.tables)


def _read(
    document: Document,
    context: Context,
    known: Known,
    invocation: Invocation | None = None,
    environment: Sequence[Entry] = (),
    chosen: Trial | None = None,
) -> _Read:
    """A program, by default with nothing given on its command line."""
    loaded = Recorder(context.load)
    project = replace(context, load=loaded)
    # a module that only defines a step is of interest for what it says itself: its package may be a whole library
    inside = runs_by_itself(document.text.encode(errors="replace"))
    program, problems = known.readings.read(
        document,
        known(document.path, world_of(context, (), environment)),
        lambda module: find_module(document.path, project, module) if inside or module[0] != "." else None,
        invocation,
        files=lambda path: next(filter(None, map(loaded, _places(document, path, context))), None),
        chosen=chosen,
    )
    return _Read(program, tuple(path for path in loaded.found if path != document.path), problems)


def _places(document: Document, path: str, context: Context) -> tuple[str, ...]:
    """Where a data file of a program may lie: beside it, in the current folder, seen from the folders above."""
    near = beside(document.path, path)
    if posixpath.isabs(path):
        return near
    above = (posixpath.normpath(posixpath.join(folder, path)) for folder in ancestors(document.path, context.root))
    return tuple(dict.fromkeys((*near, *above)))

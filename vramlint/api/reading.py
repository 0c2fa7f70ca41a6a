"""From one file's text to what its vocabularies say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from vramlint.facts import Sheet
from vramlint.readers.comments import Directive, directives
from vramlint.text import Document
from vramlint.values import Plain, Problem, Reading, Table

Modules = Callable[[str], Document | None]
"""From a module as a script imports it to the project's file."""


class Contents(NamedTuple):
    """What one file says."""

    sheets: tuple[Sheet, ...] = ()
    problems: tuple[Problem, ...] = ()
    recognised: bool = True
    """False for data files that are written in no vocabulary that vramlint knows."""


def read(document: Document, form: str, known: Mapping[str, Plain], modules: Modules) -> Contents:
    """The sheets of one file. Never raises on any content.

    Args:
        document: the file.
        form: its written form, a value of `discovery.forms.FORMS`.
        known: answers to what scripts ask at run time.
        modules: files of the project by the name under which a script imports them.
    """
    if form == "notebook":
        return _notebook(document, known, modules)
    if form == "python":
        return _program(document, known, modules)
    return _data(document, form) if form in ("json", "yaml") else Contents((), (), recognised=False)


def read_directives(document: Document, form: str) -> tuple[tuple[Directive, ...], tuple[Problem, ...]]:
    """The directives in a file's comments, and those that are not understood."""
    return directives(document, form) if form else ((), ())


def _program(document: Document, known: Mapping[str, Plain], modules: Modules) -> Contents:
    from vramlint.readers.python import read_program
    from vramlint.surfaces import program_sheet

    program, problems = read_program(document, known, modules)
    return Contents((program_sheet(program),) if program else (), problems)


def _notebook(document: Document, known: Mapping[str, Plain], modules: Modules) -> Contents:
    from vramlint.readers.notebook import read_script

    script = read_script(document)
    contents = _program(script.program, known, modules)
    return contents._replace(problems=(*script.problems, *contents.problems))


def _data(document: Document, form: str) -> Contents:
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

"""From one file's text to what its vocabularies say."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from msgspec.structs import replace

from vramlint.api.contents import Contents
from vramlint.api.loading import Known
from vramlint.api.programs import fitted, notebook, script
from vramlint.discovery.prefilter import may_start
from vramlint.facts import Recognised, Sheet
from vramlint.readers.comments import Directive, directives
from vramlint.resolve.context import Context
from vramlint.text import Document
from vramlint.values import Problem, Reading, Table


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
            return script(document, context, known)
        case "notebook":
            return notebook(document, context, known)
        case "json" | "yaml" | "toml":
            return _data(document, form, context, known)
        case _:
            return _commands(document, form, context, known)


def read_directives(document: Document, form: str) -> tuple[tuple[Directive, ...], tuple[Problem, ...]]:
    """The directives in a file's comments, and those that are not understood."""
    return directives(document, form) if form else ((), ())


def _commands(document: Document, form: str, context: Context, known: Known) -> Contents:
    from vramlint.api.launching import commands

    return commands(document, form, context, known)


def _data(document: Document, form: str, context: Context, known: Known) -> Contents:
    if may_start(form, document.text.encode(errors="replace")):
        found = _commands(document, form, context, known)
        if found.recognised:
            return found
    reading = _tree(document, form)
    if not isinstance(reading.root, Table):
        return Contents((), reading.problems, recognised=reading.root is None)
    sheet = _sheet(document.path, reading.root, context.kind)
    if sheet is None:
        return Contents((), reading.problems, recognised=False)
    if sheet.kind == "lightning" and (own := fitted(document, context, known)) is not None:
        return own._replace(sheets=tuple([replace(item, recognised=sheet.recognised) for item in own.sheets]))
    runs = tuple(_experiment(sheet, reading.root, context))
    by_itself = not runs or reading.root.get("peft_type") is not None
    return Contents((sheet, *runs) if by_itself else runs, reading.problems)


def _experiment(sheet: Sheet, table: Table, context: Context) -> Iterator[Sheet]:
    """The run of PEFT's own comparison of methods that a file is an experiment of."""
    if sheet.kind != "peft":
        return
    from vramlint.surfaces.frameworks.peft_comparison import experiments

    folder = posixpath.dirname(sheet.path)
    for run in experiments(sheet.path, table):
        paths = {link: posixpath.normpath(posixpath.join(folder, link.target)) for link in run.links}
        there = [link for link, path in paths.items() if context.load(path) is not None]
        if there or not run.links:
            yield replace(run, links=tuple(there), recognised=sheet.recognised)


def _tree(document: Document, form: str) -> Reading:
    if form == "toml":
        from vramlint.readers.toml import read_toml

        return read_toml(document)
    if form == "yaml":
        from vramlint.readers.yaml import read_yaml

        return read_yaml(document)
    from vramlint.readers.json import read_json

    return read_json(document)


def _sheet(path: str, table: Table, forced: str) -> Sheet | None:
    from vramlint.surfaces.recognising import recognise

    recognised = recognise(path, table, forced)
    sheet = _sheet_of_kind(path, table, recognised) if recognised else None
    return replace(sheet, recognised=recognised) if sheet else None


def _sheet_of_kind(path: str, table: Table, recognised: Recognised) -> Sheet:
    match recognised.kind:
        case "deepspeed-json":
            from vramlint.surfaces.deepspeed import deepspeed_sheet

            return deepspeed_sheet(path, table)
        case "accelerate-config":
            from vramlint.surfaces.accelerate_config import accelerate_sheet

            return accelerate_sheet(path, table)
        case "model-config":
            from vramlint.surfaces.model_config import model_config_sheet

            return model_config_sheet(path, table)
        case "peft":
            from vramlint.surfaces.adapter_config import adapter_config_sheet

            return adapter_config_sheet(path, table)
        case "fsdp-json":
            from vramlint.surfaces.fsdp_config import fsdp_sheet

            return fsdp_sheet(path, table)
        case "training-args-json" | "training-args-yaml" | "alignment-handbook" | "open-r1" | "trl" as kind:
            from vramlint.surfaces.frameworks.interpolation import interpolated
            from vramlint.surfaces.training_arguments import training_arguments_sheet

            table = interpolated(table)  # of a program that reads it by OmegaConf or Hydra
            if kind.startswith("training-args"):
                return training_arguments_sheet(path, table, kind)
            plain = "training-args-json" if path.lower().endswith(".json") else "training-args-yaml"
            return training_arguments_sheet(path, table, plain, project=kind)
        case _:
            from vramlint.surfaces.frameworks.reading import file_sheet

            return file_sheet(path, table, recognised.kind)

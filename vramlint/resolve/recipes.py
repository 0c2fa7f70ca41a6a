"""The file that a command line names with `--config`, under the options that the command line has itself."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import Remark, Sheet
from vramlint.resolve.context import Context, candidates, started_in
from vramlint.resolve.missing import missing
from vramlint.surfaces.overlay import overlaid
from vramlint.surfaces.training_arguments import training_arguments_sheet
from vramlint.values import Table

_COMMAND = "training-args-cli"


class Recipe(Struct, frozen=True):
    """The sheet of a command line together with its file."""

    sheet: Sheet
    remarks: tuple[Remark, ...] = ()
    paths: tuple[str, ...] = ()


def with_recipe(sheet: Sheet, context: Context) -> Recipe:
    """The sheet of a command line with the keys of its file, where it leaves them out; any other sheet as it is."""
    link = next((link for link in sheet.links if link.kind == "training-args"), None)
    if sheet.kind != _COMMAND or link is None:
        return Recipe(sheet)
    for path in candidates(sheet.path, link, context, started_in(sheet)):
        document = context.load(path)
        if document is None:
            continue
        from vramlint.readers.yaml import read_yaml

        reading = read_yaml(document)
        remarks = [
            Remark(problem.kind, path, problem.message, problem.place, vocabulary="training-arguments")
            for problem in reading.problems
        ]
        if not isinstance(reading.root, Table):
            return Recipe(sheet, tuple(remarks), (path,))
        return Recipe(_completed(sheet, reading.root), tuple(remarks), (path,))
    return Recipe(sheet, missing(sheet, link, "configuration"))


def _completed(sheet: Sheet, file: Table) -> Sheet:
    objective = sheet.get("objective")
    name, own = next(((name, table) for name, table in sheet.tables if name not in _OTHERS), ("", Table(())))
    whole = training_arguments_sheet(
        sheet.path, overlaid(file, own), _COMMAND, objective=str(objective.value) if objective else ""
    )
    said = {fact.name for fact in whole.facts}
    rest = [fact for fact in sheet.facts if fact.name not in said]
    kept = [item for item in sheet.tables if item[0] not in (name, "deepspeed", "fsdp")]
    links = dict.fromkeys((*whole.links, *(link for link in sheet.links if link.kind not in ("deepspeed", "fsdp"))))
    return replace(
        whole,
        facts=(*whole.facts, *rest),
        links=tuple(links),
        tables=(*whole.tables, *kept),
        started=sheet.started,
        sources=sheet.sources,
    )


_OTHERS = ("deepspeed", "fsdp", "accelerate")
"""Tables beside that of the options."""

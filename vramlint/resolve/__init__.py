"""Join the facts of several files into runs: links, library defaults, catalog look-ups, jobs."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from vramlint.catalog.frameworks import CUSTOM
from vramlint.resolve.context import Context

if TYPE_CHECKING:
    from vramlint.facts import Remark, Sheet
    from vramlint.job import Libraries
    from vramlint.resolve.run import Run
    from vramlint.resolve.versions import Requirement

__all__ = ["Context", "libraries_of", "resolve"]


def resolve(sheets: Sequence[Sheet], context: Context) -> tuple[Run, ...]:
    """The runs that the sheets describe, in their order.

    A script or TrainingArguments file that names a DeepSpeed JSON is one run with it; a data file that no other
    file names is a run of kind `data` by itself. What several runs would remark on one file, only the first does.
    """
    from vramlint.resolve.checks import key_bounds
    from vramlint.resolve.links import join
    from vramlint.resolve.runs import run_of
    from vramlint.resolve.versions import find_versions

    others = {posixpath.normpath(sheet.path): sheet for sheet in sheets}
    joined = [join(sheet, others, context) for sheet in sheets]
    read = {posixpath.normpath(path) for sheet in sheets if sheet.kind != CUSTOM for path in sheet.sources}
    used = {path for item in joined if not _is_part(item.sheet) for path in (item.deepspeed_path, *item.further)}
    requirements: dict[str, tuple[Requirement, ...]] = {}
    runs: list[Run] = []
    said: set[Remark] = set()
    for item in joined:
        if _is_part(item.sheet) and posixpath.normpath(item.sheet.path) in used:
            continue
        if item.sheet.kind == CUSTOM and posixpath.normpath(item.sheet.path) in read:
            continue  # what the program that loads it makes of it is said of the program
        tables = item.sheet.tables if item.deepspeed is None else (*item.sheet.tables, ("deepspeed", item.deepspeed))
        versions = find_versions(item.sheet.path, context, requirements, key_bounds(tables))
        run = run_of(item, versions, context)
        runs.append(replace(run, remarks=tuple(remark for remark in run.remarks if remark not in said)))
        said.update(run.remarks)
    return tuple(runs)


def _is_part(sheet: Sheet) -> bool:
    """Whether a file only says how another one's run shares its model."""
    return sheet.kind in ("deepspeed-json", "accelerate-config")


def libraries_of(path: str, context: Context) -> Libraries:
    """The library versions that hold in a file's folder, whatever keys the file itself uses."""
    from vramlint.job import Libraries
    from vramlint.resolve.versions import find_versions

    return Libraries(**{item.library: item.version for item in find_versions(path, context, {})})

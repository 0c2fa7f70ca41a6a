"""From the configuration of a framework to the sheet of its run."""

from __future__ import annotations

from collections.abc import Iterable

from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.checking import inherited_keys, key_remarks
from vramlint.surfaces.frameworks.framework import Config, Framework
from vramlint.surfaces.frameworks.placeholders import with_placeholders
from vramlint.surfaces.frameworks.releases import implied_release
from vramlint.values import Table


def file_sheet(path: str, table: Table, framework: str) -> Sheet:
    """The sheet of a framework's file before its keys are looked at, which waits for the release in use."""
    return Sheet(path, framework, (_training(),), tables=((framework, table),))


def read_config(
    framework: Framework,
    path: str,
    table: Table,
    release: tuple[int, ...] | None = None,
    *,
    command: bool = False,
    around: Iterable[Fact] = (),
) -> Sheet:
    """What a configuration says and what the framework makes of it, its defaults included.

    Args:
        framework: whose configuration it is; one of its forms (`Framework.form`) gives the kind of the sheet.
        path: the file of the run.
        table: the keys.
        release: of the framework; None where nobody says it: the newest that takes the keys.
        command: a command line says all or part of it.
        around: what the launcher says.
    """
    written = table
    if framework.form is not None:
        name, table = framework.form(table)
        framework = framework_of(name)
    if framework.prepared is not None:
        written = table = framework.prepared(table)
    table = with_placeholders(table)
    keys = framework.keys_of(table) if framework.keys_of else framework.name
    latest = framework.latest(table) if framework.latest else None
    implied = implied_release(keys, table, latest, inherited_keys(framework)) if release is None else None
    release = release or implied
    config = Config(framework, path, table, release, command=command, around=around)
    config.draft.put(_training())
    for row in framework.rows:
        config.say(row.fact, row.key, row.converter)
    framework.complete(config)
    for row in framework.rows:
        value = config.default(row.key)
        if value is not None and row.fact not in config.draft.facts and not config.given(row.key):
            config.state(row.fact, value, row.key)
    draft = config.draft
    told = key_remarks(framework, written, release, keys, sure=implied is None) if framework.checked else ()
    remarks = (*draft.remarks, *told)
    tables = (*draft.tables, (framework.name, table))
    return Sheet(path, framework.name, tuple(draft.facts.values()), tuple(draft.links), remarks, tables)


def _training() -> Fact:
    return Fact("run_kind", (Candidate("training"),), Origin.DERIVED, via="code", reason="the framework trains")

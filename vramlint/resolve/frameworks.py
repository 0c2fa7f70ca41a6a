"""The run of a framework's configuration: its file under what the command line says, read at the release in use."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, Link, Origin, Remark, Sheet, seconded
from vramlint.resolve.accelerate import configuration_of
from vramlint.resolve.context import Context, candidates, find_module, started_in
from vramlint.resolve.missing import missing
from vramlint.resolve.own_copies import foreign
from vramlint.resolve.recipes import Recipe
from vramlint.resolve.versions import framework_version
from vramlint.surfaces.frameworks import FRAMEWORKS, framework_of
from vramlint.surfaces.frameworks.checking import speaks
from vramlint.surfaces.frameworks.hydra_defaults import as_defaults
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.writing import read_data
from vramlint.surfaces.launch.framework_programs import PROGRAM, REMOVED, UNSEEN
from vramlint.surfaces.launch.memory_comments import memory_facts
from vramlint.surfaces.overlay import overlaid, without
from vramlint.values import Items, Reading, Scalar, Table, Unknown

_FLAGS = ("bf16", "fp16")


def with_framework(sheet: Sheet, context: Context) -> Recipe:
    """The sheet with what its framework makes of its keys; any other sheet as it is."""
    if sheet.kind not in FRAMEWORKS:
        return Recipe(sheet)
    framework = framework_of(sheet.kind)
    own = next((table for name, table in sheet.tables if name == sheet.kind), Table(()))
    links = [link for link in sheet.links if link.kind == sheet.kind]
    table, paths, defaults = Table(()), [], Table(())
    remarks: list[Remark] = []
    told = own.get(UNSEEN)
    unseen = f"its configuration: {told.value}" if isinstance(told, Scalar) else ""
    for link in links:
        places = candidates(sheet.path, link, context, started_in(sheet))
        found = next(_files((*places, *_inside_clone(link, sheet.path, context)), context), None)
        shipped = framework.packaged(link.target) if found is None and framework.packaged is not None else None
        if shipped is not None:
            table = overlaid(table, shipped)
            continue
        if found is None:
            unseen = f"{link.target} is not there to be read"
            if framework.packaged is None or "." in link.target:  # else one that another release ships
                remarks += missing(sheet, link, f"{framework.title} configuration")
            continue
        path, reading = found
        if isinstance(reading.root, Table) and not speaks(framework, reading.root):
            return Recipe(replace(sheet, kind="command", facts=(_of_another(framework.title),), links=(), tables=()))
        paths.append(path)
        remarks += [
            Remark(item.kind, path, item.message, item.place, vocabulary=sheet.kind) for item in reading.problems
        ]
        if isinstance(reading.root, Table):
            table = overlaid(table, reading.root)
    if framework.own_configuration is not None and not links and sheet.started is not None:
        path = framework.own_configuration(own, lambda module: find_module(sheet.path, context, module))
        roots = (found.root for _, found in _files((path,) if path else (), context))
        table = defaults = next((as_defaults(root) for root in roots if isinstance(root, Table)), table)
    if framework.chosen is not None and not links:
        made = framework.chosen(own, lambda module: find_module(sheet.path, context, module))
        unseen = made.reason if isinstance(made, Unknown) else unseen
        table = made if isinstance(made, Table) else table
    gone = own.get(REMOVED)
    for taken in gone.values if isinstance(gone, Items) else ():
        table = without(table, str(taken.value)) if isinstance(taken, Scalar) else table
    release = framework_version(sheet.path, context, framework.library) if framework.library else None
    said = read_config(
        framework,
        sheet.path,
        framework.overlay(table, own),
        release,
        command=sheet.started is not None,
        around=(*_precision_of(sheet, context), *sheet.facts),
    )
    if unseen:
        said = _without_defaults(said, unseen)
    return Recipe(
        replace(
            said,
            facts=_facts(said, sheet, links, paths, context),
            links=(*said.links, *(link for link in sheet.links if link.kind != sheet.kind)),
            tables=(*said.tables, *(item for item in sheet.tables if item[0] != sheet.kind)),
            remarks=(*foreign(said.remarks, sheet, own, defaults, context), *sheet.remarks),
            started=sheet.started,
            sources=sheet.sources,
            recognised=sheet.recognised,
            label=sheet.label,
        ),
        tuple(remarks),
        tuple(paths),
    )


def _precision_of(sheet: Sheet, context: Context) -> Iterator[Fact]:
    """What `accelerate launch` says of mixed precision, by its flags or its file."""
    configuration = configuration_of(sheet, context)
    yield from (fact for fact in configuration.sheet.facts if fact.name in _FLAGS) if configuration is not None else ()


def _facts(
    said: Sheet, sheet: Sheet, links: Sequence[Link], paths: Sequence[str], context: Context
) -> tuple[Fact, ...]:
    """What the configuration says, by the place that names it, under what the launcher says of the machine."""
    place = next((link.place for link in links), None)
    facts = {
        fact.name: replace(fact, through=(*fact.through, place))
        if place is not None and fact.place is not None and fact.place.path in paths
        else fact
        for fact in said.facts
    }
    for fact in sheet.facts:  # the launcher's words on the machine are nearer to the run
        own_fact = facts.get(fact.name)
        if fact.name == "run_kind" and own_fact is not None and own_fact.value != fact.value:
            continue  # by its keys it is no training
        if own_fact is None or fact.candidates or own_fact.origin is not Origin.WRITTEN:
            facts[fact.name] = seconded(fact, own_fact)
    script = context.load(sheet.started.path) if sheet.started is not None else None
    for fact in memory_facts(script) if script is not None else ():
        facts.setdefault(fact.name, fact)
    return tuple(facts.values())


def _without_defaults(sheet: Sheet, reason: str) -> Sheet:
    """What the command line says, where nobody can read its configuration: any other fact may be said there."""
    facts = [
        fact
        if fact.origin is Origin.WRITTEN or fact.key == PROGRAM or not fact.candidates
        else Fact(fact.name, (), Origin.UNKNOWN, fact.key, "runtime", reason=reason)
        for fact in sheet.facts
        if fact.name != "run_kind"
    ]
    kept = any(fact.name == "model" and fact.candidates for fact in facts)
    tables = [item for item in sheet.tables if kept or item[0] != "model-config"]
    return replace(sheet, facts=tuple(facts), tables=tuple(tables))


def _of_another(title: str) -> Fact:
    """What is said of a program of a usual name whose configuration is another framework's."""
    return Fact("run_kind", (Candidate("library"),), Origin.DERIVED, via="code", reason=f"not {title}'s keys")


def _inside_clone(link: Link, path: str, context: Context) -> tuple[str, ...]:
    """Where a file lies whose path begins in the folder above the repository: `verl/examples/config/grpo.yaml`."""
    clone, _, inside = posixpath.normpath(link.target).partition("/")
    if "/" not in inside or clone in ("", ".", ".."):
        return ()
    return candidates(path, replace(link, target=inside), context)


def _files(paths: tuple[str, ...], context: Context) -> Iterator[tuple[str, Reading]]:
    for path in paths:
        document = context.load(path)
        if document is not None:
            yield path, read_data(document)

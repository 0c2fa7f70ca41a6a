"""`.gitlab-ci.yml`: jobs with scripts, and the tags of runners."""

from __future__ import annotations

from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.runners import labelled
from vramlint.surfaces.jobfiles.scripts import Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Entry, Items, Table, Value

_NO_JOBS = frozenset(("default", "variables", "workflow", "stages", "include", "image", "cache", "spec"))


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """One workload per job that has a script."""
    found = []
    for entry in table:
        job = entry.value
        if entry.key in _NO_JOBS or not isinstance(job, Table) or job.get("script") is None:
            continue
        environment = (*_variables(table.get("variables")), *_variables(job.get("variables")))
        before = job.get("before_script") or table.get("before_script") or table.get("default", "before_script")
        ran = scripts.shell((*_lines(before), *_lines(job.get("script"))), environment)
        tags = job.get("tags")
        labels = tags.values if isinstance(tags, Items) else ()
        facts = hardware.one_of_each(fact for label in labels for fact in labelled(label, "tags"))
        if ran.commands:
            found.append(Workload(scripts.document.path, entry.key, ran.commands, facts, ran.files))
    return tuple(found)


def _variables(value: Value | None) -> tuple[Entry, ...]:
    """Variables, which may be given as `{value, description}`."""
    if not isinstance(value, Table):
        return ()
    plain = (
        Entry(e.key, e.key_place, e.value.get("value") or e.value) if isinstance(e.value, Table) else e for e in value
    )
    return environment_of(Table(tuple(plain)))


def _lines(value: Value | None) -> tuple[Value, ...]:
    """A script's lines, of which lists may hold lists."""
    if isinstance(value, Items):
        return tuple(line for item in value.values for line in _lines(item))
    return (value,) if value is not None else ()

"""Azure ML command jobs, alone or as steps of a pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.scripts import Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Scalar, Table, Unknown, Value

_EXPRESSION = lazy(r"\$\{\{\s*(.*?)\s*\}\}")


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """The job's command, or those of the pipeline's steps."""
    steps = table.get("jobs")
    if isinstance(steps, Table):
        named = [(entry.key, entry.value) for entry in steps if isinstance(entry.value, Table)]
        return tuple(found for name, step in named for found in _job(scripts, name, step))
    return tuple(_job(scripts, "", table))


def _job(scripts: Scripts, name: str, job: Table) -> Iterator[Workload]:
    inputs = job.get("inputs")

    def lookup(match: re.Match[str]) -> Value:
        section, _, key = match[1].partition(".")
        value = inputs.get(key) if section == "inputs" and isinstance(inputs, Table) else None
        if isinstance(value, Table):
            value = value.get("default") or value.get("value") or value.get("path")
        known = isinstance(value, Scalar) and "${{" not in str(value.value)
        return value if known and value is not None else Unknown(f"`{match[1]}` of the job")

    folder = job.get("code")
    local = isinstance(folder, Scalar) and isinstance(folder.value, str) and ":" not in folder.value
    scripts = scripts.with_template(_EXPRESSION, lookup)
    environment = environment_of(job.get("environment_variables"))
    ran = scripts.shell([job.get("command")], environment, folder if local else None)
    if ran.commands:
        yield Workload(scripts.document.path, name, ran.commands, hardware.one_of_each(_machine(job)), ran.files)


def _machine(job: Table) -> Iterator[Fact]:
    yield from hardware.machine(job.get("resources", "instance_type"), "instance_type")
    yield from hardware.count("nodes", job.get("resources", "instance_count"), "instance_count")

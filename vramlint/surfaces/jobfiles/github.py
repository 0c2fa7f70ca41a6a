"""GitHub workflows: the steps of jobs, and the runners that they ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.runners import labelled
from vramlint.surfaces.jobfiles.scripts import Ran, Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Alternatives, Entry, Items, Option, Scalar, Table, Unknown, Value

_EXPRESSION = lazy(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_PATH = lazy(r"(\w+)\.([\w-]+)(?:\s*\|\|\s*'([^']*)')?")
_SHELLS = lazy(r"(?:bash|sh)\b")
MAX_CHOICES = 16
"""Values of a matrix that are told apart."""


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """One workload per job, or for a composite action, with the commands of all its steps."""
    jobs = table.get("jobs")
    found: list[Workload] = []
    for entry in jobs if isinstance(jobs, Table) else ():
        if isinstance(entry.value, Table):
            found += _job(scripts, table, entry.key, entry.value)
    action = table.get("runs")
    if isinstance(action, Table):
        found += _job(scripts, table, "", action)
    return tuple(found)


def _job(scripts: Scripts, workflow: Table, name: str, job: Table) -> Iterator[Workload]:
    environment = (*environment_of(workflow.get("env")), *environment_of(job.get("env")))
    values = _values(workflow, job)
    scripts = _within(scripts, values, environment)
    folder = _scalar(job.get("defaults", "run", "working-directory"))
    folder = folder or _scalar(workflow.get("defaults", "run", "working-directory"))
    ran = Ran()
    for step in _tables(job.get("steps")):
        ran = ran.and_then(_step(scripts, values, environment, step, folder))
    given = job.get("with")
    if isinstance(given, Table):
        for key in ("script", "run", "command"):
            ran = ran.and_then(scripts.shell([given.get(key)], environment, folder))
    if ran.commands:
        yield Workload(scripts.document.path, name, ran.commands, _machine(scripts, job), ran.files)


def _step(
    scripts: Scripts, values: dict[str, Value], environment: tuple[Entry, ...], step: Table, folder: Value | None
) -> Ran:
    shell = step.get("shell")
    if isinstance(shell, Scalar) and not _SHELLS.match(str(shell.value)):
        return Ran()
    environment = (*environment, *environment_of(step.get("env")))
    scripts = _within(scripts, values, environment)
    environment = tuple(Entry(entry.key, entry.key_place, scripts.value(entry.value)) for entry in environment)
    return scripts.shell([step.get("run")], environment, _scalar(step.get("working-directory")) or folder)


def _within(scripts: Scripts, values: dict[str, Value], environment: tuple[Entry, ...]) -> Scripts:
    """Puts in what `${{ … }}` stands for."""
    known = {**values, **{f"env.{entry.key}": entry.value for entry in environment}}

    def lookup(match: re.Match[str]) -> Value:
        path = _PATH.fullmatch(match[1])
        found = known.get(f"{path[1]}.{path[2]}") if path else None
        if found is None and path and path[3] is not None and path[1] in ("inputs", "matrix"):
            return Scalar(path[3])
        if isinstance(found, Scalar) and isinstance(found.value, str) and "${{" in found.value:
            found = None
        return found if found is not None else Unknown(f"`{match[1]}` of the workflow")

    return scripts.with_template(_EXPRESSION, lookup)


def _values(workflow: Table, job: Table) -> dict[str, Value]:
    """What the file itself says about `matrix.…` and `inputs.…`."""
    found: dict[str, list[Value]] = {}
    matrix = job.get("strategy", "matrix")
    for entry in matrix if isinstance(matrix, Table) else ():
        if entry.key == "include":
            for row in _tables(entry.value):
                for cell in row:
                    found.setdefault(f"matrix.{cell.key}", []).append(cell.value)
        elif isinstance(entry.value, Items) and entry.key != "exclude":
            found.setdefault(f"matrix.{entry.key}", []).extend(entry.value.values)
    values = {name: _one_of(name, choices) for name, choices in found.items()}
    for path in (("on", "workflow_dispatch"), ("on", "workflow_call"), ()):
        inputs = workflow.get(*path, "inputs")
        for entry in inputs if isinstance(inputs, Table) else ():
            default = entry.value.get("default") if isinstance(entry.value, Table) else None
            if isinstance(default, Scalar):
                values[f"inputs.{entry.key}"] = default
    return values


def _one_of(name: str, choices: list[Value]) -> Value:
    scalars = {choice.value: choice for choice in choices if isinstance(choice, Scalar)}
    if len(choices) > MAX_CHOICES or any(not isinstance(choice, Scalar) for choice in choices):
        return Unknown(f"`{name}` of the workflow")
    several = tuple(Option(choice, f"{name} == {choice.value}") for choice in scalars.values())
    return several[0].value if len(several) == 1 else Alternatives(several)


def _machine(scripts: Scripts, job: Table) -> tuple[Fact, ...]:
    runs_on = job.get("runs-on") or job.get("with", "runner") or job.get("with", "runs-on")
    if isinstance(runs_on, Table):
        runs_on = runs_on.get("labels")
    labels = runs_on.values if isinstance(runs_on, Items) else (runs_on,) if runs_on is not None else ()
    return hardware.one_of_each(fact for label in labels for fact in labelled(scripts.value(label), "runs-on"))


def _scalar(value: Value | None) -> Scalar | None:
    return value if isinstance(value, Scalar) and isinstance(value.value, str) else None


def _tables(value: Value | None) -> tuple[Table, ...]:
    return tuple(item for item in value.values if isinstance(item, Table)) if isinstance(value, Items) else ()

"""Ai2's Beaker: experiments of tasks, each a container on machines with some GPUs (spec v2)."""

from __future__ import annotations

from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.scripts import Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Items, Scalar, Table, Value


def is_beaker(table: Table) -> bool:
    """Whether a table is an experiment: tasks with an image and a request for GPUs or a cluster."""
    return any(
        isinstance(task.get("image", "beaker") or task.get("image", "docker"), Scalar)
        and any(task.entry(key) is not None for key in ("resources", "context", "constraints"))
        for task in _tasks(table)
    )


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """What each task runs; `command` and `arguments` are one list of words."""
    found: list[Workload] = []
    tasks = list(_tasks(table))
    for task in tasks:
        words = [*_words(task.get("command")), *_words(task.get("arguments"))]
        place = next((word.place for word in words if word.place is not None), None)
        if place is None:
            continue
        ran = scripts.words(words, place, environment_of(task.get("envVars")))
        named = task.get("name")
        name = str(named.value) if isinstance(named, Scalar) and len(tasks) > 1 else ""
        found.append(Workload(scripts.document.path, name, ran.commands, tuple(_machine(task)), ran.files))
    return tuple(found)


def _tasks(table: Table) -> Iterator[Table]:
    tasks = table.get("tasks")
    yield from (task for task in tasks.values if isinstance(task, Table)) if isinstance(tasks, Items) else ()


def _words(value: Value | None) -> tuple[Value, ...]:
    return value.values if isinstance(value, Items) else ()


def _machine(task: Table) -> Iterator[Fact]:
    yield from hardware.count("gpus_per_node", task.get("resources", "gpuCount"), "resources.gpuCount")
    yield from hardware.count("nodes", task.get("replicas"), "replicas")

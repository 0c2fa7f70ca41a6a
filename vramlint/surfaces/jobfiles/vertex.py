"""Vertex AI custom jobs: pools of workers with machine types and accelerators."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.scripts import Ran, Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Entry, Items, Scalar, Table, Value

POOLS = ("workerPoolSpecs", "worker_pool_specs")


def pools_of(table: Table) -> Items | None:
    """The pools of a custom job, which may be wrapped in its resource."""
    for wrapper in ((), ("jobSpec",), ("job_spec",), ("trialJobSpec",)):
        for key in POOLS:
            found = table.get(*wrapper, key)
            if isinstance(found, Items):
                return found
    return None


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """What the first pool runs, on all machines; other pools only where they run something else."""
    found = pools_of(table)
    pools = [pool for pool in found.values if isinstance(pool, Table)] if found is not None else []
    nodes = _nodes(pools)
    result: list[Workload] = []
    for number, pool in enumerate(pools):
        ran = _run(scripts, pool)
        said = [[getattr(word, "value", word) for word in command.words] for command in ran.commands]
        if not said or any(_said(other) == said for other in result):
            continue
        facts = hardware.one_of_each((*_machine(pool), *nodes))
        name = f"worker pool {number}" if len(pools) > 1 else ""
        result.append(Workload(scripts.document.path, name, ran.commands, facts, ran.files))
    return tuple(result)


def _said(workload: Workload) -> list[list[object]]:
    return [[getattr(word, "value", word) for word in command.words] for command in workload.commands]


def _run(scripts: Scripts, pool: Table) -> Ran:
    container = _get(pool, "containerSpec")
    if isinstance(container, Table):
        values = [value for key in ("command", "args") for value in _words(container.get(key))]
        place = values[0].place if values else None
        environment = environment_of(container.get("env"))
        return scripts.words(values, place, environment) if place is not None else Ran()
    package = _get(pool, "pythonPackageSpec")
    module = _get(package, "pythonModule") if isinstance(package, Table) else None
    if isinstance(package, Table) and isinstance(module, Scalar) and module.place is not None:
        words = (Scalar("python", module.place), Scalar("-m", module.place), module, *_words(package.get("args")))
        return scripts.words(words, module.place, environment_of(package.get("env")))
    return Ran()


def _words(value: Value | None) -> tuple[Value, ...]:
    return value.values if isinstance(value, Items) else ()


def _machine(pool: Table) -> Iterator[Fact]:
    spec = _get(pool, "machineSpec")
    if not isinstance(spec, Table):
        return
    kind = _entry(spec, "acceleratorType")
    if kind is not None:
        yield from hardware.gpu(kind.value, kind.key, "gcp")
    number = _entry(spec, "acceleratorCount")
    if number is not None:
        yield from hardware.count("gpus_per_node", number.value, number.key)
    shape = _entry(spec, "machineType")
    yield from hardware.machine(shape.value, shape.key) if shape is not None else ()


def _nodes(pools: list[Table]) -> tuple[Fact, ...]:
    counts = [_get(pool, "replicaCount") for pool in pools]
    if not counts or not all(isinstance(count, Scalar) and str(count.value).isdigit() for count in counts):
        return ()
    total = sum(int(str(count.value)) for count in counts if isinstance(count, Scalar))
    place = next((count.place for count in reversed(counts) if count is not None), None)
    return (hardware.written("nodes", [(total, place)], "replicaCount"),)


def _entry(table: Table, key: str) -> Entry | None:
    """The entry under a key in camel or snake case, as JSON and Python write it."""
    return table.entry(key) or table.entry(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())


def _get(table: Table, key: str) -> Value | None:
    entry = _entry(table, key)
    return entry.value if entry else None

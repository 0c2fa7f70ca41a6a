"""Kubernetes manifests: pods and what is made of pods, with the operators that train on several nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.pods import Pod, containers, machine, requested, run, tables
from vramlint.surfaces.jobfiles.scripts import Scripts
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Place
from vramlint.values import Entry, Items, Scalar, Table, Value


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """The pods of a manifest, or of all manifests of a `kind: List`, with what their containers run."""
    return tuple(workload for manifest in _manifests(table) for workload in _manifest(scripts, manifest))


def _manifest(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    kind = table.get("kind")
    spec = table.get("spec")
    if not isinstance(kind, Scalar) or not isinstance(spec, Table):
        return ()
    special = _SPECIAL.get(
        "VolcanoJob" if kind.value == "Job" and "tasks" in {e.key for e in spec} else str(kind.value)
    )
    if special is not None:
        return tuple(special(scripts, table, spec))
    return tuple(workload for pod in _pods(spec, str(kind.value)) for workload in containers(scripts, pod))


def _manifests(table: Table) -> tuple[Table, ...]:
    several = table.get("items")
    if isinstance(several, Items):
        return tuple(item for item in several.values if isinstance(item, Table))
    return (table,)


def _pods(spec: Table, kind: str) -> Iterator[Pod]:
    if tables(spec, "containers"):
        yield Pod(spec, "")
        return
    replicas = _numbers(spec.get("parallelism")) if kind == "Job" and _is_indexed(spec) else ()
    for path in (("template", "spec"), ("jobTemplate", "spec", "template", "spec")):
        pod = spec.get(*path)
        if isinstance(pod, Table):
            yield Pod(pod, "", replicas)


def _is_indexed(spec: Table) -> bool:
    mode = spec.get("completionMode")
    return isinstance(mode, Scalar) and mode.value == "Indexed"


def _numbers(*values: Value | None) -> tuple[Value, ...]:
    return tuple(value for value in values if value is not None)


def _template(replica: Value | None) -> Table | None:
    spec = replica.get("template", "spec") if isinstance(replica, Table) else None
    return spec if isinstance(spec, Table) else None


def _replica_specs(key: str) -> Callable[[Scripts, Table, Table], Iterator[Workload]]:
    """Kubeflow's training operator: groups of pods that run one program, all of them on every node."""

    def read(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
        groups = spec.get(key)
        pods = [(entry, _template(entry.value)) for entry in groups] if isinstance(groups, Table) else []
        nodes = _sum([entry.value for entry, _ in pods])
        seen: set[tuple[object, ...]] = set()
        for entry, pod in pods:
            for workload in containers(scripts, Pod(pod, entry.key), nodes) if pod is not None else ():
                said = tuple(_plain(word) for command in workload.commands for word in command.words)
                if said not in seen:
                    seen.add(said)
                    yield workload

    return read


def _plain(word: Value) -> object:
    return word.value if isinstance(word, Scalar) else word


def _sum(groups: list[Value]) -> tuple[Fact, ...]:
    """The machines of all groups together; a group without a number is one."""
    total = 0
    place: Place | None = None
    for group in groups:
        replicas = group.get("replicas") if isinstance(group, Table) else None
        if replicas is not None and not (isinstance(replicas, Scalar) and str(replicas.value).isdigit()):
            return ()
        total += int(str(replicas.value)) if isinstance(replicas, Scalar) else 1
        place = replicas.place if isinstance(replicas, Scalar) else place
    return (hardware.written("nodes", [(total, place)], "replicas"),) if place is not None and total else ()


def _mpi_job(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """MPIJob: the launcher has the command, the workers have the GPUs."""
    worker = spec.get("mpiReplicaSpecs", "Worker")
    launcher = _template(spec.get("mpiReplicaSpecs", "Launcher"))
    pod = _template(worker)
    facts: list[Fact] = list(_sum([worker])) if worker is not None else []
    for container in tables(pod, "containers"):
        facts += machine(container, pod) if pod is not None else ()
    if launcher is not None:
        yield from containers(scripts, Pod(launcher, ""), tuple(facts))


def _train_job(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """TrainJob of Kubeflow Trainer 2: one container, written without its pod."""
    trainer = spec.get("trainer")
    if not isinstance(trainer, Table):
        return
    ran = run(scripts, trainer)
    if ran.commands:
        request = requested(Table((Entry("limits", None, _resources(trainer)),)))
        gpus = hardware.count("gpus_per_node", request.value, request.key) if request else ()
        facts = (*gpus, *hardware.count("nodes", trainer.get("numNodes"), "numNodes"))
        yield Workload(scripts.document.path, "", ran.commands, facts, ran.files)


def _resources(trainer: Table) -> Table:
    found = (trainer.get("resourcesPerNode", key) for key in ("requests", "limits"))
    parts = [part for part in found if isinstance(part, Table)]
    return Table(tuple(entry for part in parts for entry in part))


def _ray_job(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """RayJob: an entrypoint, and a cluster whose workers have the GPUs."""
    ran = scripts.either(spec.get("entrypoint"))
    if not ran.commands:
        return
    facts: list[Fact] = []
    trained: list[Value] = []
    for group in tables(spec.get("rayClusterSpec"), "workerGroupSpecs"):
        pod = _template(group)
        found = [fact for c in tables(pod, "containers") for fact in machine(c, pod)] if pod else []
        if any(fact.name == "gpus_per_node" for fact in found):
            trained.append(group)
            facts += found
    yield Workload(scripts.document.path, "", ran.commands, hardware.one_of_each((*facts, *_sum(trained))), ran.files)


def _groups(key: str) -> Callable[[Scripts, Table, Table], Iterator[Workload]]:
    """JobSet and Volcano: lists of named groups of pods."""

    def read(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
        for group in tables(spec, key):
            name = group.get("name")
            inner = group.get("template", "spec")
            job = isinstance(inner, Table) and isinstance(inner.get("template", "spec"), Table)
            pod = inner.get("template", "spec") if isinstance(inner, Table) and job else inner
            nodes = _numbers(group.get("replicas"), inner.get("parallelism") if isinstance(inner, Table) else None)
            if isinstance(pod, Table):
                yield from containers(scripts, Pod(pod, str(name.value) if isinstance(name, Scalar) else "", nodes))

    return read


def _leader_worker_set(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """LeaderWorkerSet: groups of `size` pods."""
    template = spec.get("leaderWorkerTemplate")
    for role in ("leaderTemplate", "workerTemplate"):
        pod = template.get(role, "spec") if isinstance(template, Table) else None
        if isinstance(pod, Table):
            size = spec.get("leaderWorkerTemplate", "size")
            yield from containers(scripts, Pod(pod, role.removesuffix("Template"), _numbers(size)))


def _argo(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """Argo Workflows: templates with one container each."""
    for template in tables(spec, "templates"):
        container = template.get("container")
        name = template.get("name")
        if isinstance(container, Table):
            pod = Table((Entry("containers", None, Items((container,))), *template.entries))
            yield from containers(scripts, Pod(pod, str(name.value) if isinstance(name, Scalar) else ""))


def _experiment(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """Katib's experiment: a manifest that is tried with parameters of its choice."""
    trial = spec.get("trialTemplate", "trialSpec")
    if isinstance(trial, Table):
        yield from _manifest(scripts, trial)


_SPECIAL: Mapping[str, Callable[[Scripts, Table, Table], Iterator[Workload]]] = MappingProxyType(
    {
        "PyTorchJob": _replica_specs("pytorchReplicaSpecs"),
        "PaddleJob": _replica_specs("paddleReplicaSpecs"),
        "MPIJob": _mpi_job,
        "TrainJob": _train_job,
        "RayJob": _ray_job,
        "JobSet": _groups("replicatedJobs"),
        "VolcanoJob": _groups("tasks"),
        "LeaderWorkerSet": _leader_worker_set,
        "Workflow": _argo,
        "WorkflowTemplate": _argo,
        "CronWorkflow": _argo,
        "Experiment": _experiment,
    }
)

"""Kubernetes manifests: pods and what is made of pods, with the operators that train on several nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.scripts import Ran, Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Place
from vramlint.values import Entry, Items, Scalar, Table, Value


class Pod(NamedTuple):
    """A pod's spec and how many pods of the kind train together."""

    spec: Table
    name: str
    nodes: tuple[Value, ...] = ()
    """Numbers whose product it is."""


_VARIABLE = re.compile(r"\$\$(?=\()|\$\((\w+)\)")

_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "cloud.google.com/gke-accelerator": "gcp",
        "nvidia.com/gpu.product": "label",
        "gpu.nvidia.com/class": "coreweave",
        "gpu.nvidia.com/model": "coreweave",
        "karpenter.k8s.aws/instance-gpu-name": "label",
        "eks.amazonaws.com/instance-gpu-name": "label",
        "k8s.amazonaws.com/accelerator": "gcp",
        "amd.com/gpu.product-name": "label",
    }
)
"""Labels of nodes that name their GPU, and in whose words."""

_OWN_LABEL = re.compile(r"(?i)(?:.*/)?(?:gpu|accelerator)(?:[-_.]?(?:type|name|model|product|class))?")
"""What clusters call such a label by themselves; taken where the catalog knows the value."""

_MACHINES = frozenset(("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"))
_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi", "aws.amazon.com/neuron", "google.com/tpu")
_SLICE = re.compile(r"nvidia\.com/mig-(.+)")


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
    return tuple(workload for pod in _pods(spec, str(kind.value)) for workload in _containers(scripts, pod))


def _manifests(table: Table) -> tuple[Table, ...]:
    several = table.get("items")
    if isinstance(several, Items):
        return tuple(item for item in several.values if isinstance(item, Table))
    return (table,)


def _pods(spec: Table, kind: str) -> Iterator[Pod]:
    if _list(spec, "containers"):
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


def _containers(scripts: Scripts, pod: Pod, extra: tuple[Fact, ...] = ()) -> Iterator[Workload]:
    containers = _list(pod.spec, "containers")
    for container in containers:
        ran = _run(scripts, container)
        if not ran.commands:
            continue
        name = container.get("name")
        own = str(name.value) if isinstance(name, Scalar) and len(containers) > 1 else ""
        facts = hardware.one_of_each((*_container_facts(container, pod.spec), *extra, *_nodes(pod.nodes)))
        label = "/".join(part for part in (pod.name, own) if part)
        yield Workload(scripts.document.path, label, ran.commands, facts, ran.files)


def _run(scripts: Scripts, container: Table) -> Ran:
    """What a container runs: its command with its arguments behind."""
    environment = environment_of(container.get("env"))
    known: dict[str, Value] = {}
    for entry in environment:
        known[entry.key] = entry.value

    def lookup(match: re.Match[str]) -> Value | str | None:
        return known.get(match[1]) if match[1] else "$"

    words = [word for key in ("command", "args") for word in _words(container.get(key))]
    if not words or container.place is None:
        return Ran()
    folder = container.get("workingDir")
    return scripts.with_template(_VARIABLE, lookup).words(words, words[0].place or container.place, environment, folder)


def _words(value: Value | None) -> tuple[Value, ...]:
    return value.values if isinstance(value, Items) else (value,) if value is not None else ()


def _container_facts(container: Table, pod: Table) -> Iterator[Fact]:
    declared = tuple(_labels(pod))
    gpus = _requested(container.get("resources"))
    if gpus is not None:
        mig = _SLICE.fullmatch(gpus.key)
        yield from hardware.count("gpus_per_node", gpus.value, gpus.key)
        if mig is not None:
            yield from _sliced(declared, mig[1], gpus)
            return
    yield from declared


def _sliced(declared: tuple[Fact, ...], profile: str, request: Entry) -> tuple[Fact, ...]:
    """The GPU of a pod that asks for MIG slices: a slice of what its labels name."""
    whole = next((fact for fact in declared if fact.name == "gpu" and fact.candidates), None)
    if whole is None:
        return (hardware.unknown("gpu", f"a MIG slice {profile} of a GPU that the file does not name", request.key),)
    names = [f"{candidate.value}/{profile}" for candidate in whole.candidates]
    return (hardware.written("gpu", ((name, request.key_place) for name in names), request.key),)


def _requested(resources: Value | None) -> Entry | None:
    """The entry that says how many GPUs a container gets."""
    if not isinstance(resources, Table):
        return None
    for part in ("limits", "requests"):
        amounts = resources.get(part)
        for entry in amounts if isinstance(amounts, Table) else ():
            if entry.key in _GPUS or _SLICE.fullmatch(entry.key):
                return entry
    return None


def _labels(pod: Table) -> Iterator[Fact]:
    selector = pod.get("nodeSelector")
    for entry in selector if isinstance(selector, Table) else ():
        yield from _label(entry.key, (entry.value,))
    required = pod.get("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in _list(required, "nodeSelectorTerms"):
        for expression in _list(term, "matchExpressions"):
            key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values")
            if isinstance(key, Scalar) and isinstance(operator, Scalar) and operator.value == "In":
                yield from _label(str(key.value), values.values if isinstance(values, Items) else ())


def _label(key: str, values: tuple[Value, ...]) -> tuple[Fact, ...]:
    if key in _MACHINES:
        return tuple(hardware.any_of([hardware.machine(value, key) for value in values]))
    if key not in _LABELS and not _OWN_LABEL.fullmatch(key):
        return ()
    facts = hardware.any_of([hardware.gpu(value, key, _LABELS.get(key, "label")) for value in values])
    return facts if key in _LABELS else tuple(fact for fact in facts if fact.candidates)


def _list(value: Value | None, key: str) -> tuple[Table, ...]:
    items = value.get(key) if isinstance(value, Table) else None
    return tuple(item for item in items.values if isinstance(item, Table)) if isinstance(items, Items) else ()


def _numbers(*values: Value | None) -> tuple[Value, ...]:
    return tuple(value for value in values if value is not None)


def _nodes(factors: tuple[Value, ...]) -> tuple[Fact, ...]:
    """The number of machines, a product of what the file says in several places."""
    total = 1
    place: Place | None = None
    for factor in factors:
        if not isinstance(factor, Scalar) or not str(factor.value).isdigit():
            return ()
        total *= int(str(factor.value))
        place = factor.place if str(factor.value) != "1" or place is None else place
    return (hardware.written("nodes", [(total, place)], "replicas"),) if place is not None and total else ()


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
            for workload in _containers(scripts, Pod(pod, entry.key), nodes) if pod is not None else ():
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
    for container in _list(pod, "containers"):
        facts += _container_facts(container, pod) if pod is not None else ()
    if launcher is not None:
        yield from _containers(scripts, Pod(launcher, ""), tuple(facts))


def _train_job(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """TrainJob of Kubeflow Trainer 2: one container, written without its pod."""
    trainer = spec.get("trainer")
    if not isinstance(trainer, Table):
        return
    ran = _run(scripts, trainer)
    if ran.commands:
        request = _requested(Table((Entry("limits", None, _resources(trainer)),)))
        gpus = hardware.count("gpus_per_node", request.value, request.key) if request else ()
        facts = (*gpus, *hardware.count("nodes", trainer.get("numNodes"), "numNodes"))
        yield Workload(scripts.document.path, "", ran.commands, facts, ran.files)


def _resources(trainer: Table) -> Table:
    found = trainer.get("resourcesPerNode")
    parts = [part for key in ("requests", "limits") if isinstance(part := _get(found, key), Table)]
    return Table(tuple(entry for part in parts for entry in part))


def _get(value: Value | None, key: str) -> Value | None:
    return value.get(key) if isinstance(value, Table) else None


def _ray_job(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """RayJob: an entrypoint, and a cluster whose workers have the GPUs."""
    ran = scripts.either(spec.get("entrypoint"))
    if not ran.commands:
        return
    facts: list[Fact] = []
    trained: list[Value] = []
    for group in _list(spec.get("rayClusterSpec"), "workerGroupSpecs"):
        pod = _template(group)
        found = [fact for c in _list(pod, "containers") for fact in _container_facts(c, pod)] if pod else []
        if any(fact.name == "gpus_per_node" for fact in found):
            trained.append(group)
            facts += found
    yield Workload(scripts.document.path, "", ran.commands, hardware.one_of_each((*facts, *_sum(trained))), ran.files)


def _groups(key: str) -> Callable[[Scripts, Table, Table], Iterator[Workload]]:
    """JobSet and Volcano: lists of named groups of pods."""

    def read(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
        for group in _list(spec, key):
            name = group.get("name")
            inner = group.get("template", "spec")
            job = isinstance(inner, Table) and isinstance(inner.get("template", "spec"), Table)
            pod = inner.get("template", "spec") if isinstance(inner, Table) and job else inner
            nodes = _numbers(group.get("replicas"), inner.get("parallelism") if isinstance(inner, Table) else None)
            if isinstance(pod, Table):
                yield from _containers(scripts, Pod(pod, str(name.value) if isinstance(name, Scalar) else "", nodes))

    return read


def _leader_worker_set(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """LeaderWorkerSet: groups of `size` pods."""
    template = spec.get("leaderWorkerTemplate")
    for role in ("leaderTemplate", "workerTemplate"):
        pod = template.get(role, "spec") if isinstance(template, Table) else None
        if isinstance(pod, Table):
            size = _get(template, "size")
            yield from _containers(scripts, Pod(pod, role.removesuffix("Template"), _numbers(size)))


def _argo(scripts: Scripts, _table: Table, spec: Table) -> Iterator[Workload]:
    """Argo Workflows: templates with one container each."""
    for template in _list(spec, "templates"):
        container = template.get("container")
        name = template.get("name")
        if isinstance(container, Table):
            pod = Table((Entry("containers", None, Items((container,))), *template.entries))
            yield from _containers(scripts, Pod(pod, str(name.value) if isinstance(name, Scalar) else ""))


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
    }
)

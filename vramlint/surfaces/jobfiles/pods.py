"""Pods of Kubernetes: what their containers run, and the GPUs that they ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.budgets import of_container
from vramlint.surfaces.jobfiles.scripts import Ran, Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Place
from vramlint.values import Entry, Items, Scalar, Table, Unknown, Value


class Pod(Struct, frozen=True):
    """A pod's spec and how many pods of the kind train together."""

    spec: Table
    name: str
    nodes: tuple[Value, ...] = ()
    """Numbers whose product it is."""


_VARIABLE = lazy(r"\$\$(?=\()|\$\((\w+)\)|\$\{trialParameters\.(\w+)\}")

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

_OWN_LABEL = lazy(r"(?i)(?:.*/)?(?:gpu|accelerator)(?:[-_.]?(?:type|name|model|product|class))?")
"""What clusters call such a label by themselves; taken where the catalog knows the value."""

_MACHINES = frozenset(("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"))
_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi", "aws.amazon.com/neuron", "google.com/tpu")
_SLICE = lazy(r"nvidia\.com/mig-(.+)")


def containers(scripts: Scripts, pod: Pod, extra: tuple[Fact, ...] = ()) -> Iterator[Workload]:
    """One workload per container that says what it runs."""
    several = tables(pod.spec, "containers")
    for container in several:
        ran = run(scripts, container)
        if not ran.commands:
            continue
        name = container.get("name")
        own = str(name.value) if isinstance(name, Scalar) and len(several) > 1 else ""
        facts = hardware.one_of_each((*machine(container, pod.spec), *extra, *nodes_of(pod.nodes)))
        label = "/".join(part for part in (pod.name, own) if part)
        yield Workload(scripts.document.path, label, ran.commands, facts, ran.files)


def run(scripts: Scripts, container: Table) -> Ran:
    """What a container runs: its command with its arguments behind."""
    environment = environment_of(container.get("env"))
    known: dict[str, Value] = {}
    for entry in environment:
        known[entry.key] = entry.value

    def lookup(match: re.Match[str]) -> Value | str | None:
        if match[2]:
            return Unknown(f"parameter {match[2]} of the experiment")
        return known.get(match[1]) if match[1] else "$"

    words = [word for key in ("command", "args") for word in _words(container.get(key))]
    if not words or container.place is None:
        return Ran()
    folder = container.get("workingDir")
    return scripts.with_template(_VARIABLE, lookup).words(words, words[0].place or container.place, environment, folder)


def _words(value: Value | None) -> tuple[Value, ...]:
    return value.values if isinstance(value, Items) else (value,) if value is not None else ()


def machine(container: Table, pod: Table) -> Iterator[Fact]:
    """The GPUs that a container of a pod asks for."""
    declared = tuple(_labels(pod))
    yield from of_container(container.get("resources"))
    gpus = requested(container.get("resources"))
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


def requested(resources: Value | None) -> Entry | None:
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
    for term in tables(required, "nodeSelectorTerms"):
        for expression in tables(term, "matchExpressions"):
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


def tables(value: Value | None, key: str) -> tuple[Table, ...]:
    """The tables in a list under `key`."""
    items = value.get(key) if isinstance(value, Table) else None
    return tuple(item for item in items.values if isinstance(item, Table)) if isinstance(items, Items) else ()


def nodes_of(factors: tuple[Value, ...]) -> tuple[Fact, ...]:
    """The number of machines, a product of what the file says in several places."""
    total = 1
    place: Place | None = None
    for factor in factors:
        if not isinstance(factor, Scalar) or not str(factor.value).isdigit():
            return ()
        total *= int(str(factor.value))
        place = factor.place if str(factor.value) != "1" or place is None else place
    return (hardware.written("nodes", [(total, place)], "replicas"),) if place is not None and total else ()

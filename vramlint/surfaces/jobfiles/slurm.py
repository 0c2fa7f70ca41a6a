"""What a batch script asks its scheduler for: Slurm, PBS, Grid Engine and LSF."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from vramlint.catalog.instances import gpus_of
from vramlint.facts import Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.batch_requests import lsf, resources
from vramlint.surfaces.jobfiles.budgets import of_slurm
from vramlint.surfaces.jobfiles.runners import labelled
from vramlint.surfaces.jobfiles.scripts import ReadShell
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Document, Place
from vramlint.values import Entry, Scalar, Shell, Unknown, Value

_SHORT = {
    "-N": "--nodes",
    "-n": "--ntasks",
    "-G": "--gpus",
    "-C": "--constraint",
    "-p": "--partition",
    "-c": "--cpus-per-task",
}
_GRES = lazy(r"(?:gres[:/])?gpu(?::(?P<type>[^:,()]*[^\d:,()][^:,()]*))?(?::(?P<count>\d+))?(?:\(.*\))?")
_TYPED = lazy(r"(?:(?P<type>[^:]+):)?(?P<count>\d+)(?:\(.*\))?")
_SIZE = lazy(r"(?i)(?:^|[^0-9])(\d{2,3})g?b?$")


def slurm_facts(shell: Shell) -> tuple[Fact, ...]:
    """GPU, GPUs per node, nodes and world size as the header comments of a batch script ask for them."""
    return request_facts(shell.headers)


def request_facts(options: Sequence[Entry]) -> tuple[Fact, ...]:
    """The same from options, be they headers or arguments of `sbatch` and `srun`; a later one wins over an earlier."""
    asked = _options(options)
    facts = [fact for key, how in _PER_NODE.items() if key in asked for fact in how(asked[key])]
    for entry in options:
        if entry.key == "-l":
            facts += resources(entry)
        elif entry.key in ("-gpu", "-R"):
            facts += lsf(entry)
    facts += _per_task(asked)
    facts += _nodes(asked)
    facts = list(hardware.one_of_each(facts))
    facts += of_slurm(asked, _gpus_of_one(facts))
    return tuple(_narrowed(facts, asked))


def _gpus_of_one(facts: Sequence[Fact]) -> int | None:
    """GPUs of one machine, as far as they are known."""
    known = {fact.name: fact.value for fact in facts if fact.known and isinstance(fact.value, int)}
    each, world, nodes = (known.get(name) for name in ("gpus_per_node", "world_size", "nodes"))
    if isinstance(each, int):
        return each
    return world // nodes if isinstance(world, int) and isinstance(nodes, int) and nodes else None


def slurm_environment(shell: Shell) -> tuple[Entry, ...]:
    """Variables that Slurm sets for a script, as far as its header decides them."""
    asked = _options(shell.headers)
    facts = {fact.name: fact for fact in slurm_facts(shell)}
    tasks = asked.get("--ntasks-per-node")
    found = [
        *_variables(("SLURM_NNODES", "SLURM_JOB_NUM_NODES"), facts.get("nodes")),
        *_variables(("SLURM_GPUS_ON_NODE",), facts.get("gpus_per_node")),
        *_variables(("SLURM_GPUS",), facts.get("world_size")),
    ]
    for key, names in _PASSED_ON.items():
        entry = asked.get(key)
        if entry is not None and isinstance(entry.value, Scalar):
            found += (Entry(name, entry.key_place, entry.value) for name in names)
    if "--ntasks" not in asked and tasks is not None:
        total = _product(tasks.value, facts.get("nodes"))
        found += (Entry(name, None, total) for name in ("SLURM_NTASKS", "SLURM_NPROCS") if total is not None)
    return tuple(found)


def workload_of_script(document: Document, read: ReadShell, name: str = "") -> Workload:
    """A shell script as a workload: its commands on the machine that its header asks for."""
    shell, _ = read(document, (), name)
    environment = slurm_environment(shell)
    if environment:
        shell, _ = read(document, environment, name)
    return Workload(document.path, "", shell.commands, slurm_facts(shell), shell.files)


_PASSED_ON = {
    "--ntasks-per-node": ("SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE"),
    "--ntasks": ("SLURM_NTASKS", "SLURM_NPROCS"),
    "--cpus-per-task": ("SLURM_CPUS_PER_TASK",),
    "--gpus-per-node": ("SLURM_GPUS_PER_NODE",),
}


def _variables(names: Sequence[str], fact: Fact | None) -> list[Entry]:
    if fact is None or not fact.known:
        return []
    return [Entry(name, None, Scalar(str(fact.value), fact.place)) for name in names]


def _product(tasks: Value, nodes: Fact | None) -> Scalar | None:
    number = _integer(tasks)
    machines = nodes.value if nodes is not None and nodes.known else None
    return Scalar(str(number * machines), tasks.place) if number and isinstance(machines, int) else None


def _integer(value: Value | None) -> int | None:
    return int(str(value.value)) if isinstance(value, Scalar) and str(value.value).isdigit() else None


def _options(options: Sequence[Entry]) -> dict[str, Entry]:
    return {_SHORT.get(entry.key, entry.key): entry for entry in options}


def _gres(entry: Entry) -> Iterator[Fact]:
    """`gpu:h100:4`, `gpu:4`, `gpu`, with other resources behind commas."""
    for text, place in hardware.texts(entry.value):
        if isinstance(text, Unknown):
            yield hardware.unknown("gpus_per_node", text.reason, entry.key)
            continue
        for part in text.split(","):
            match = _GRES.fullmatch(part.strip())
            if match:
                yield from _typed(match["type"], match["count"], place, entry.key, "gpus_per_node")


def _gpus(name: str, entry: Entry) -> Iterator[Fact]:
    """`8` or `a100:8`."""
    for text, place in hardware.texts(entry.value):
        match = _TYPED.fullmatch(text.strip()) if isinstance(text, str) else None
        if match:
            yield from _typed(match["type"], match["count"], place, entry.key, name)
        elif isinstance(text, Unknown):
            yield hardware.unknown(name, text.reason, entry.key)


def _typed(kind: str | None, count: str | None, place: Place | None, key: str, name: str) -> Iterator[Fact]:
    """A kind and a number. No number is one, unless the kind is a blank to fill in (`gpu:HOW_MANY`)."""
    gpus = hardware.gpu(Scalar(kind, place), key) if kind else ()
    if count or all(fact.candidates for fact in gpus):
        yield from hardware.count(name, Scalar(count or "1", place), key)
    else:
        yield hardware.unknown(name, f"`{kind}` is no number", key)
    yield from gpus


def _per_task(asked: dict[str, Entry]) -> Iterator[Fact]:
    """`--gpus-per-task` times the tasks of a node, or all tasks."""
    entry = asked.get("--gpus-per-task")
    for text, place in hardware.texts(entry.value if entry else None):
        match = _TYPED.fullmatch(text) if isinstance(text, str) else None
        if match is None or entry is None:
            continue
        for name, key in (("gpus_per_node", "--ntasks-per-node"), ("world_size", "--ntasks")):
            tasks = _integer(asked[key].value) if key in asked else None
            if tasks:
                yield hardware.written(name, [(tasks * int(match["count"]), place)], entry.key)
        if match["type"]:
            yield from hardware.gpu(Scalar(match["type"], place), entry.key)


def _nodes(asked: dict[str, Entry]) -> tuple[Fact, ...]:
    entry = asked.get("--nodes")
    if entry is None or (entry.key == "-N" and _integer(entry.value) is None):  # a job's name in other schedulers
        return ()
    return hardware.count("nodes", entry.value, entry.key)


_PER_NODE: Mapping[str, Callable[[Entry], Iterator[Fact]]] = {
    "--gres": _gres,
    "--gpus-per-node": lambda entry: _gpus("gpus_per_node", entry),
    "--gpus": lambda entry: _gpus("world_size", entry),
}


def _narrowed(facts: list[Fact], asked: dict[str, Entry]) -> Iterator[Fact]:
    """The facts with the GPU that a constraint names, or tells from its namesakes; at last by the partition's name."""
    said = next((fact for fact in facts if fact.name == "gpu"), None)
    yield from (fact for fact in facts if fact.name != "gpu")
    constraint = asked.get("--constraint")
    if constraint is not None and isinstance(constraint.value, Scalar):
        said = _constrained(said, str(constraint.value.value), constraint)
    partition = asked.get("--partition") or asked.get("-q")
    if said is None and partition is not None and isinstance(partition.value, Scalar):
        hint = next((fact for fact in labelled(partition.value, partition.key) if fact.name == "gpu"), None)
        kind = "queue" if partition.key == "-q" else "partition"
        reason = f"the {kind} is called `{partition.value.value}`"
        said = replace(hint, origin=Origin.ASSUMED, reason=reason) if hint else None
    if said is not None:
        yield said


def _constrained(said: Fact | None, text: str, entry: Entry) -> Fact | None:
    words = [word for word in re.split(r"[&|,\[\]()*\s]+", text) if word]
    named = [gpus for word in words if (gpus := gpus_of(word))]
    if said is None or not said.candidates:
        every = [gpu for gpus in named for gpu in gpus]
        return hardware.written("gpu", ((gpu, entry.value.place) for gpu in every), entry.key) if every else said
    if len(said.candidates) == 1:
        return said
    for word in words:
        size = _SIZE.search(word)
        kept = tuple(c for c in said.candidates if size and f"-{size[1]}gb" in str(c.value))
        if len(kept) == 1:
            return replace(said, candidates=kept)
    return said

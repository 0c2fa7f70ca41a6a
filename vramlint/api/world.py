"""The machine that one job runs on: what the user declares, else what its own files say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from vramlint.catalog.gpu_requests import GpuRequest, parse_gpu
from vramlint.facts import Fact
from vramlint.job import Gpu
from vramlint.resolve.context import Context
from vramlint.surfaces.launch.ranks import HOST_MEMORY
from vramlint.values import Entry, Scalar

MANY = ("torchrun", "deepspeed", "accelerate", "mpirun", "srun", "composer", "colossalai", "tune", "ray")
"""Launchers that start a process for every GPU and tell each its rank."""


class World(Struct, frozen=True):
    """What a script can ask about where it runs."""

    gpu: Gpu | None = None
    gpu_origin: str = ""
    world_size: int | None = None
    nodes: int | None = None
    launched: bool = False
    """A launcher that sets RANK and WORLD_SIZE starts it, maybe with a size that is not known."""
    alone: bool = False
    """Python itself starts it: one process that sees all GPUs, with no variables of a launcher."""
    environment: Mapping[str, str] = {}
    """Variables that the launcher sets, as far as they are known."""
    ram: int | None = None
    """Host memory of one machine that the job may take, bytes."""


def world_of(context: Context, facts: Iterable[Fact], environment: Sequence[Entry] = ()) -> World:
    """The machine of a job whose launcher states `facts` and sets `environment`."""
    by_name = {fact.name: fact for fact in facts}
    gpu, origin = context.gpu, context.gpu_origin
    if gpu is None:
        request = _request(by_name.get("gpu"))
        gpu, origin = (request.gpu, _origin(by_name["gpu"])) if request else (None, "")
    launcher = by_name.get("launcher")
    variables = {
        entry.key: str(entry.value.value)
        for entry in environment
        if isinstance(entry.value, Scalar) and entry.value.value is not None
    }
    return World(
        gpu,
        origin,
        context.world_size or _integer(by_name.get("world_size")),
        context.nodes or _integer(by_name.get("nodes")),
        launcher is not None and str(launcher.value) in MANY,
        launcher is not None and launcher.value == "python",
        variables,
        context.ram or _integer(by_name.get(HOST_MEMORY)),
    )


def in_world(context: Context, world: World) -> Context:
    """The surroundings with the machine of one job."""
    return replace(
        context,
        gpu=world.gpu,
        gpu_origin=world.gpu_origin,
        world_size=world.world_size,
        nodes=world.nodes,
        ram=world.ram,
    )


def _request(fact: Fact | None) -> GpuRequest | None:
    found = parse_gpu(str(fact.value)) if fact is not None and fact.value else None
    return found if isinstance(found, GpuRequest) else None


def _origin(fact: Fact) -> str:
    """Who declares the device: `job.yaml:7`."""
    place = fact.place
    return f"{place.path}:{place.span.line}" if place else fact.key


def _integer(fact: Fact | None) -> int | None:
    value = fact.value if fact is not None else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None

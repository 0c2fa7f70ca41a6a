"""The NCCL communicators of a run: one for every group of ranks that exchanges anything, with buffers of its own.

torch makes the communicator of a process group at its first collective, and none for a group of one rank (torch 2.13
torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp). Their buffers hang on rings and trees of fixed degree, so that they
do not grow with the number of ranks (maintainer in NVIDIA/nccl issue 986), but send and receive connect every pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from vramlint.job import Job, Megatron, Mesh, Parallelism

PAIR_BYTES, GROUP_BYTES = 544 * 10**6, 688 * 10**6
"""Of a communicator of two ranks, and of more: four A100 with NVLink, group by group (NVIDIA/nccl issue 964)."""
PEER_BYTES = (4340 - 1060) * 10**6 // 7
"""What sending to and receiving from one other GPU of the machine takes: an all-to-all among eight H100 takes 3.28 GB
(NVIDIA/nccl issue 1685)."""
NETWORK_BYTES = 512 << 20
"""The buffer that all sending to and receiving from other machines shares (NVIDIA/nccl issues 1450 and 2363)."""
EXCHANGED = "alltoall"
"""Megatron's dispatcher whose tokens go from every rank to every other (moe_token_dispatcher_type)."""


class Communicator(Struct, frozen=True):
    """Ranks that exchange something."""

    name: str
    """What they share: world, data, tensor, pipeline, …"""
    ranks: int
    nbytes: int
    """Device memory on each of its ranks."""


def communicators(job: Job) -> tuple[Communicator, ...]:
    """Those of one rank, in the order in which a run makes them."""
    parallelism = job.parallelism
    alone = parallelism.world_size <= 1 or parallelism.strategy in {"none", "device_map"}
    if alone and parallelism.mesh is None:
        return ()
    groups = ((name, ranks) for name, ranks in _groups(parallelism) if ranks > 1)
    found = [Communicator(name, ranks, PAIR_BYTES if ranks == 2 else GROUP_BYTES) for name, ranks in groups]
    sequence = parallelism.sequence
    if sequence is not None and sequence.by_heads:
        near = min(sequence.ranks, parallelism.ranks_per_node)
        nbytes = (near - 1) * PEER_BYTES + (NETWORK_BYTES if near < sequence.ranks else 0)
        found.append(Communicator("sequence, all-to-all", sequence.ranks, nbytes))
    if parallelism.megatron is not None:
        found += _sending(job, parallelism, parallelism.megatron)
    mesh = parallelism.mesh
    if mesh is not None and mesh.pipeline > 1:
        nbytes = NETWORK_BYTES if parallelism.nodes > 1 else min(2, mesh.pipeline - 1) * PEER_BYTES
        found.append(Communicator("pipeline", mesh.pipeline, nbytes))
    return tuple(found)


def _groups(parallelism: Parallelism) -> Iterator[tuple[str, int]]:
    """Groups that reduce, gather and broadcast, with their ranks."""
    ranks = parallelism.world_size
    if parallelism.strategy == "dataparallel":  # one process, whose broadcasts and sums NCCL does
        yield "replicas", ranks
        return
    mesh = parallelism.mesh
    if mesh is not None:
        yield from _of_mesh(parallelism, mesh)
        return
    yield "world", ranks  # barriers, metrics; DDP and plain FSDP reduce in it, too
    if parallelism.strategy == "deepspeed":  # deepspeed 0.19.8 utils/groups.py, _clone_world_group
        yield "data", ranks
    if parallelism.sequence is not None:
        yield "sequence", parallelism.sequence.ranks
    if parallelism.replicas > 1:  # torch 2.13 fsdp/_init_utils.py, _init_intra_and_inter_node_groups
        yield "shards", parallelism.sharing
        yield "copies", parallelism.replicas
    if parallelism.megatron is not None:
        yield from _of_megatron(ranks, parallelism.megatron)


def _of_mesh(parallelism: Parallelism, mesh: Mesh) -> Iterator[tuple[str, int]]:
    """Those of torchtitan's meshes (torchtitan 0.2 distributed/parallel_dims.py); one of a size beside the world's."""
    yield "world", parallelism.world_size * mesh.tensor * mesh.pipeline  # barriers, reported losses
    yield "shards", parallelism.sharing
    yield "copies", parallelism.replicas
    yield "tensor", mesh.tensor
    yield "context", mesh.context


def _of_megatron(ranks: int, engine: Megatron) -> Iterator[tuple[str, int]]:
    """Those that a step uses of megatron/core/parallel_state.py, initialize_model_parallel."""
    model = engine.tensor * engine.pipeline
    yield "tensor", engine.tensor
    yield "context", engine.context
    yield "data and context", ranks // model  # gradients
    if engine.context > 1:
        yield "data", ranks // (model * engine.context)  # reported losses
    yield "model", model  # the norm of all gradients
    if engine.expert > 1:
        yield "expert data", ranks // (engine.expert * _expert_tensor(engine) * engine.pipeline)


def _sending(job: Job, parallelism: Parallelism, engine: Megatron) -> Iterator[Communicator]:
    """Groups whose ranks send to one another: neighbouring stages, and experts.

    Ranks are numbered tensor, expert, data, pipeline (megatron/training/initialize.py, tp-cp-ep-dp-pp).
    """
    each = parallelism.ranks_per_node
    if engine.pipeline > 1:
        near = parallelism.world_size // engine.pipeline < each
        nbytes = min(2, engine.pipeline - 1) * PEER_BYTES if near else NETWORK_BYTES
        yield Communicator("pipeline", engine.pipeline, nbytes)
    if engine.expert > 1:
        near_by = max(1, min(engine.expert, each // _expert_tensor(engine)))
        nbytes = (near_by - 1) * PEER_BYTES + (NETWORK_BYTES if near_by < engine.expert else 0)
        exchanged = _dispatcher(job) == EXCHANGED
        yield Communicator("experts", engine.expert, nbytes if exchanged else GROUP_BYTES)


def _expert_tensor(engine: Megatron) -> int:
    return engine.tensor if engine.expert_tensor is None else engine.expert_tensor


def _dispatcher(job: Job) -> object:
    config = job.model.config.get("megatron", job.model.config)
    return config.get("dispatcher") if isinstance(config, Mapping) else None

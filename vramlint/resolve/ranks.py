"""How many GPUs a run has, and how they share its work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import Candidate, Fact, FactValue, Origin
from vramlint.resolve.board import Board, by_default, derived, possible, with_roads
from vramlint.resolve.defaults import library_default
from vramlint.resolve.processes import one_rank, replicas

DECLARED = "declared"
"""Why a run has as many GPUs as `--gpu NAMExN` and its like say."""


def world_size(board: Board) -> Fact | None:
    """GPUs of the run: what is declared, what DeepSpeed's batch identity implies; else one, or several that share."""
    if not board.is_missing("world_size") and not board.is_unknown("world_size"):
        return one_rank(board, shards=board.setting.deepspeed or _has_fsdp(board))
    setting = board.setting
    if setting.world_size:
        return possible("world_size", (setting.world_size,), DECLARED)
    if board.value("parallelism") == "megatron":
        return _least(board)
    if board.value("divided_by") in _DIVIDING and _one_model(board) > 1:
        return _groups(board)
    total, micro = board.integer("global_batch_size"), board.integer("micro_batch_size")
    steps = board.integer("gradient_accumulation_steps")
    counted = board.facts.get("gradient_accumulation_steps")
    said = counted is not None and counted.origin is not Origin.ASSUMED
    if setting.deepspeed and total and micro and steps and said and total % (micro * steps) == 0:
        return derived("world_size", total // (micro * steps), "train_batch_size / (micro batch size · accumulation)")
    if board.value("launcher") not in (None, "python"):
        words = (board.facts.get(name) for name in ("world_size", "gpus_per_node", "nodes"))
        open_ = next((fact.reason for fact in words if fact is not None and not fact.candidates), "")
        why = open_ or "the launcher starts a process for every GPU"
        least, most = _launched(board)
        return possible("world_size", (least, most), f"{why}; {least} to {most} are assumed")
    if board.setting.launched and not board.setting.deepspeed:
        reason = f"the launcher decides how many GPUs there are; 1 to {_ONE_NODE} are assumed"
        return possible("world_size", (1, _ONE_NODE), reason)
    if _shares_states(board):
        reason = f"no launcher says how many GPUs share the model; 1 to {_ONE_NODE} are assumed"
        return possible("world_size", (1, _ONE_NODE), reason)
    return possible("world_size", (1,), "no launcher says how many GPUs; one is assumed")


_DIVIDING = ("dtensor", "gpt-neox")
"""What divides one model among GPUs by degrees of parallelism, beside Megatron, by the fact `divided_by`."""


def _one_model(board: Board) -> int:
    """GPUs that the degrees multiply to."""
    return math.prod(max(1, board.integer(name) or 1) for name in DEGREES)


def _groups(board: Board) -> Fact:
    """Several groups of GPUs that share one model each, for whoever divides matrices shards what is left, too."""
    least = _one_model(board)
    reason = f"one model takes {least} GPUs; 2 to {_GROUPS} such groups are assumed to share the data"
    return possible("world_size", (2 * least, _GROUPS * least), reason)


def _least(board: Board) -> Fact:
    """GPUs that Megatron's degrees multiply to; more of them share the states of a distributed optimizer."""
    least = _one_model(board)
    reason = "what tensor, pipeline and context parallelism take; more share the data"
    if board.value("distributed_optimizer") is True:
        return possible("world_size", (least, least * _ONE_NODE), f"{reason}; up to {_ONE_NODE} times as many")
    return possible("world_size", (least,), reason)


DEGREES = ("tensor_parallel", "pipeline_parallel", "context_parallel")
"""Facts whose product is the number of GPUs that one model takes."""
_ONE_NODE = 8
"""GPUs of a full node, the high end of an unknown number of GPUs that share the model's states."""
_GROUPS = 64
"""The high end of the groups that share one model each: torchtitan's largest run with groups of 8 has 512 GPUs
(benchmarks/llama3_h100_202412_torchtitan.md)."""
_NODES = 8
"""The high end of an unknown number of machines, where a launcher asks for several."""


def _launched(board: Board) -> tuple[int, int]:
    """The ends of the number of processes that a launcher starts."""
    each = board.integer("gpus_per_node")
    machines = board.integer("nodes")
    fewest, most = (machines, machines) if machines else (1, _NODES if board.is_unknown("nodes") else 1)
    return fewest * (each or 1), most * (each or _ONE_NODE)


def machines(board: Board) -> int:
    """Machines of the run: what is declared or launched; else as few as hold all GPUs, with those of a full node."""
    world = board.integer("world_size") or 1
    said = board.setting.nodes or board.integer("nodes")
    return min(said, world) if said else -(-world // (board.integer("gpus_per_node") or _ONE_NODE))


def _shares_states(board: Board) -> bool:
    """Whether what one GPU holds depends on how many there are: ZeRO from stage 1, FSDP."""
    if board.setting.deepspeed or board.value("parallelism") == "deepspeed":
        return (board.integer("zero_stage") or 0) > 0
    return board.value("parallelism") == "fsdp" or _has_fsdp(board)


def _has_fsdp(board: Board) -> bool:
    fsdp = board.facts.get("fsdp")
    return fsdp is not None and fsdp.value not in (None, "", False)


def fsdp_version(board: Board) -> Fact | None:
    """FSDP 1 or 2, by the Trainer's default where its own arguments ask for FSDP and say no version."""
    if not board.is_missing("fsdp_version") or not _has_fsdp(board) or not board.setting.trainer:
        return None
    return library_default(board, "fsdp_version", "transformers", "TrainingArguments.fsdp_config.version")


def backward_prefetch(board: Board) -> Fact | None:
    """When FSDP 1 gathers the next unit of backward: accelerate's default, or torch's where a program wraps by itself.

    accelerate 0.20 to 1.15 utils/dataclasses.py and transformers 5.23 training_args.py: NO_PREFETCH; torch 2.13
    distributed/fsdp/fully_sharded_data_parallel.py: BACKWARD_PRE.
    """
    name = "fsdp_backward_prefetch"
    if not board.is_missing(name) or not _has_fsdp(board) or (board.integer("fsdp_version") or 1) != 1:
        return None
    if board.setting.trainer or board.value("loop") in {"trainer", "accelerate"}:
        return by_default(name, "no_prefetch", board.setting.label("accelerate"), "fsdp_config.fsdp_backward_prefetch")
    return by_default(name, "backward_pre", board.setting.label("torch"), "FullyShardedDataParallel.backward_prefetch")


_SPREADING = ("auto", "balanced", "balanced_low_0", "sequential", "custom")
"""Device maps that spread one model over all visible GPUs."""

_PLAIN_LAUNCHERS = ("torchrun", "deepspeed", "srun", "mpirun", "torchx", "jsrun", "aprun", "horovodrun")
"""Launchers that start processes and leave it to the program how these share the model."""

_UNLAUNCHED: Mapping[FactValue, tuple[str, str]] = MappingProxyType(
    {
        **{
            word: ("device_map", f"device_map is {word}: one process spreads the model over the GPUs that it sees")
            for word in _SPREADING
        },
        "process": ("ddp", "device_map puts the model on the process's own GPU, as under a launcher"),
    }
)
"""What a device map says about a run whose launcher no file shows."""


def parallelism(board: Board) -> Fact | None:
    """How the GPUs share the work."""
    if not board.is_missing("parallelism"):
        return None
    if board.setting.deepspeed:
        return derived(
            "parallelism", "deepspeed", "a DeepSpeed configuration is in force", board.facts.get("zero_stage")
        )
    if _has_fsdp(board):
        return derived("parallelism", "fsdp", "fsdp is set", board.facts["fsdp"])
    gpus = board.integer("world_size") or 1
    spread = board.facts.get("device_map")
    if spread and gpus > 1 and spread.value in _SPREADING:
        return derived("parallelism", "device_map", f"device_map is {spread.value}", spread)
    launched = board.facts["world_size"]
    if launched.origin is Origin.ASSUMED and board.setting.world_size is None:
        if spread and spread.value in _UNLAUNCHED:
            way, reason = _UNLAUNCHED[spread.value]
            candidate = Candidate(way, spread.place)
            fact = Fact("parallelism", (candidate,), Origin.ASSUMED, spread.key, "derived", reason=reason)
            return with_roads(fact, spread)
        if gpus > 1 and board.value("launcher") not in _PLAIN_LAUNCHERS:
            return possible("parallelism", ("fsdp",), "the launcher decides, which may share the model's states")
        if gpus == 1:
            return possible("parallelism", ("none",), launched.reason)
    if gpus > 1 and board.setting.launched and board.value("launcher") not in _PLAIN_LAUNCHERS:
        return possible(
            "parallelism", ("ddp", "fsdp"), "the launcher decides whether the GPUs share the model's states"
        )
    alone = replicas(board)
    return alone or derived(
        "parallelism", "ddp" if gpus > 1 else "none", f"{gpus} GPU{'s' if gpus > 1 else ''}", launched
    )

"""Which ranks of a run differ, and what the job of one of each is.

Ranks that share a model run the same steps over parts of it, so a rank of tensor parallelism is a thinner model, a
stage of a pipeline a shorter one, and a rank of context parallelism has shorter sequences. Ranks of the same kind are
simulated once, whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from vramlint.job import ConfigValue, Job, Megatron
from vramlint.memory import data_parallel
from vramlint.memory.megatron_models import of_transformers
from vramlint.memory.pipeline_layout import Chunks, in_flight, parsed, stages
from vramlint.memory.refusal import NotFollowedError

DIVIDED = ("vocab_size", "num_attention_heads", "intermediate_size")
"""Dimensions that tensor parallelism divides; the heads of keys and values, where there are enough of them."""


class Kind(Struct, frozen=True):
    """Ranks that hold the same."""

    name: str
    job: Job
    ranks: int

    @property
    def holds(self) -> str:
        """What it has that others have not: `3 layers, 4 forwards in flight, embedding`."""
        if data_parallel.is_spread(self.job):
            return "a replica" if data_parallel.is_replica(self.job) else "model, optimizer, gathered outputs"
        config, parallelism = self.job.model.config, self.job.parallelism
        forwards = sum((parallelism.megatron or Megatron()).in_flight)
        if parallelism.mesh is not None:
            forwards = max((sum(turn.waiting) + sum(turn.halves) for turn in parallelism.mesh.turns), default=1)
        if parallelism.neox is not None:
            forwards = parallelism.neox.in_flight
        layers = config.get("num_hidden_layers")  # models of several parts have it in that of the text
        said = [] if layers is None else [f"{layers} layers"]
        said += [f"{forwards} forwards in flight"] if forwards > 1 else []
        said += [part for key, part in (("first", "embedding"), ("last", "logits and loss")) if config.get(key)]
        return ", ".join(said)


def kinds(job: Job) -> Iterator[Kind]:
    """The kinds of a job's ranks, one for each stage of the pipeline that differs from its neighbours.

    Raises:
        NotFollowedError: the model cannot be divided like that.
        KeyError: its config lacks a dimension.
    """
    if data_parallel.is_spread(job):
        yield Kind("GPU 0", data_parallel.gpu_of(job, 0), 1)
        yield Kind("other GPUs", data_parallel.gpu_of(job, 1), job.parallelism.world_size - 1)
        return
    engine = job.parallelism.megatron or Megatron()
    count = engine.pipeline
    if engine.layout:
        engine = replace(engine, chunks=max(1, len(parsed(engine.layout)) // count))
    each = max(1, job.parallelism.world_size // count)
    for found, alike in groupby(range(count), key=lambda stage: stage_of(job, engine, stage)):
        numbers = list(alike)
        yield Kind(name_of(numbers, count), found, each * len(numbers))


def name_of(numbers: Sequence[int], stages: int) -> str:
    """`stage 0 of 4`, `stages 1 to 2 of 4`, or `every rank`."""
    if stages == 1:
        return "every rank"
    if len(numbers) == 1:
        return f"stage {numbers[0]} of {stages}"
    return f"stages {numbers[0]} to {numbers[-1]} of {stages}"


def stage_of(job: Job, engine: Megatron, stage: int) -> Job:
    """The job of one rank of a stage.

    Raises:
        NotFollowedError: the model cannot be divided like that.
        KeyError: its config lacks a dimension.
    """
    config = job.model.config.get("megatron")
    if not isinstance(config, Mapping):
        config = of_transformers(job.model, engine.tensor)
        if config is not None and config.get("experts"):
            config = {**config, "dispatcher": engine.dispatcher, "grouped_experts": engine.grouped}
    if config is None or job.adapter is not None or job.quantization is not None:
        raise NotFollowedError(f"Megatron's training of {job.model.model_type or 'this model'}")
    sized = {"predictions": engine.predictions, **config}
    for key in DIVIDED:
        sized[key] = share_of(sized, key, engine.tensor)
    if sized.get("experts"):
        sized |= _of_experts(sized, engine)
    groups = sized.get("num_key_value_heads")
    if isinstance(groups, int):
        sized["num_key_value_heads"] = max(1, groups // engine.tensor)
    predictions = sized.get("predictions")
    further = predictions if isinstance(predictions, int) else 0
    chunks = stages(engine, share_of(sized, "num_hidden_layers", 1), further)[stage]
    sized |= {
        "num_hidden_layers": sum(map(len, chunks)),
        "chunks": _sparse(sized, chunks),
        "keys": job.batch.sequence_length,
        "tensor_ranks": engine.tensor,
        "sequence": engine.sequence and engine.tensor > 1,
        "first": stage == 0,
        "last": stage == engine.pipeline - 1,
        "fused_gradients": engine.fused_gradients,
        "fused_loss": engine.fused_loss,
        "recompute": engine.recompute,
        "recompute_modules": engine.recompute_modules,
        "distributes_checkpoints": engine.distributes_checkpoints and engine.tensor > 1,
        **_recomputed(engine, chunks),
    }
    batch = replace(job.batch, sequence_length=-(-job.batch.sequence_length // engine.context))
    engine = replace(engine, in_flight=tuple(in_flight(engine, stage, job.batch)))
    precision = job.precision
    if precision.autocast is not None:  # the model itself is converted (megatron/core/transformer/module.py)
        precision = replace(precision, weights=precision.autocast, autocast=None, grad_scaler=False)
    return replace(
        job,
        model=replace(job.model, model_type="megatron", config=sized, parameter_count=None),
        batch=batch,
        precision=precision,
        parallelism=replace(job.parallelism, megatron=engine, model_shards=1),
    )


def _of_experts(config: Mapping[str, ConfigValue], engine: Megatron) -> dict[str, ConfigValue]:
    """What a rank has of the experts, each divided by the ranks that share its matrices."""
    share_of(config, "experts", engine.expert)
    shared = engine.tensor if engine.expert_tensor is None else engine.expert_tensor
    found: dict[str, ConfigValue] = {
        "expert_intermediate_size": share_of(config, "expert_intermediate_size", shared),
        "expert_ranks": engine.expert,
        "expert_tensor_ranks": shared,
    }
    if config.get("shared_expert_intermediate_size"):
        found["shared_expert_intermediate_size"] = share_of(config, "shared_expert_intermediate_size", engine.tensor)
    return found


def _sparse(config: Mapping[str, ConfigValue], chunks: Chunks) -> ConfigValue:
    """For every layer of every chunk whether it has experts (moe_layer_freq)."""
    given = config.get("sparse_layers")
    if not isinstance(given, Sequence) or isinstance(given, str):
        return tuple((bool(config.get("experts")),) * len(chunk) for chunk in chunks)
    return tuple(tuple(bool(given[layer]) for layer in chunk) for chunk in chunks)


def _recomputed(engine: Megatron, chunks: Chunks) -> dict[str, ConfigValue]:
    if engine.recompute != "full":
        return {}
    if engine.recompute_method == "block":
        return {"recompute_first": engine.recompute_layers}
    longest = max(map(len, chunks))
    every = min(engine.recompute_layers, longest)
    if every < 1 or longest % every:
        raise NotFollowedError(f"recomputing {engine.recompute_layers} layers at a time of {longest}")
    return {"recompute_every": every}


def share_of(config: Mapping[str, ConfigValue], key: str, parts: int) -> int:
    """A size of the model on each of `parts` ranks.

    Raises:
        NotFollowedError: it cannot be divided.
        KeyError: the configuration has no such whole number.
    """
    value = config.get(key)
    if not isinstance(value, int):
        raise KeyError(key)
    if value % parts:
        raise NotFollowedError(f"{key} {value} over {parts} ranks")
    return value // parts

"""Which ranks of a run of gpt-neox differ, and what the job of one of each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from msgspec.structs import replace

from vramlint.job import ConfigValue, Job, NeoX
from vramlint.memory.neox_stages import EMBED, HEAD, LAYER, NORM, cut, parts_of
from vramlint.memory.ranks import Kind, name_of, share_of
from vramlint.memory.refusal import NotFollowedError

DIVIDED = ("vocab_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
"""Dimensions that the ranks which share matrices divide."""
MODEL = "neox"
"""The key of the model as gpt-neox builds it, in a config, and the model type of what one rank holds."""


def divides(job: Job) -> bool:
    """Whether the job is that of a whole run of gpt-neox, of which a rank has yet to be made."""
    return job.parallelism.neox is not None and job.model.model_type != MODEL


def kinds(job: Job) -> Iterator[Kind]:
    """The kinds of a job's ranks, one for each stage of the pipeline that differs from its neighbours.

    Raises:
        NotFollowedError: the model cannot be divided like that, or is another one than of transformer layers.
        KeyError: its config lacks a dimension.
    """
    engine = job.parallelism.neox or NeoX()
    each = max(1, job.parallelism.world_size // engine.pipeline)
    for found, alike in groupby(range(engine.pipeline), key=lambda stage: stage_of(job, engine, stage)):
        numbers = list(alike)
        yield Kind(name_of(numbers, engine.pipeline), found, each * len(numbers))


def stage_of(job: Job, engine: NeoX, stage: int) -> Job:
    """The job of one rank of a stage.

    Raises:
        NotFollowedError: the model cannot be divided like that.
        KeyError: its config lacks a dimension.
    """
    config = job.model.config.get(MODEL)
    if not isinstance(config, Mapping) or job.adapter is not None or job.quantization is not None:
        raise NotFollowedError(f"gpt-neox's training of {job.model.model_type or 'this model'}")
    zero = job.parallelism.zero
    if zero is not None and zero.stage > 1 and (engine.engine or engine.tensor > 1):
        raise NotFollowedError(f"ZeRO stage {zero.stage} with DeepSpeed's pipeline engine, which refuses it,")
    sized = dict(config)
    for key in DIVIDED:
        sized[key] = share_of(sized, key, engine.tensor)
    length, rows, steps = job.batch.sequence_length, job.batch.micro_batch_size, job.batch.gradient_accumulation_steps
    if engine.sequence and length % engine.tensor:
        raise NotFollowedError(f"a sequence of {length} over {engine.tensor} ranks")
    tied = bool(sized.get("tie_word_embeddings"))
    parts = parts_of(share_of(sized, "num_hidden_layers", 1), tied=tied)
    stages = cut(parts, _weights(parts, sized), engine.pipeline, engine.method)
    own = stages[stage]
    forwards = min(engine.pipeline - stage, steps)
    sized |= {
        "num_hidden_layers": own.count(LAYER),
        "segments": _segments(own, engine.interval),
        "rows": rows,
        "keys": length,
        "tensor_ranks": engine.tensor,
        "sequence": engine.sequence and engine.tensor > 1,
        "first": stage == 0,
        "last": stage == engine.pipeline - 1,
        "norms_last": NORM in own,
        "pipelined": engine.engine,
        "checkpoint_parts": engine.tensor if engine.partitions_checkpoints else 1,
        "checkpoint_in_cpu": engine.offloads_checkpoints,
    }
    if not own.count(LAYER) or (own[0] != EMBED and stage == 0) or (own[-1] not in {EMBED, HEAD} and sized["last"]):
        raise NotFollowedError(f"{len(parts)} parts of a model over {engine.pipeline} stages")
    precision = job.precision
    if precision.autocast is not None:  # the module itself is converted (runtime/engine.py)
        precision = replace(precision, weights=precision.autocast, autocast=None, grad_scaler=False)
    return replace(
        job,
        model=replace(job.model, model_type=MODEL, config=sized, parameter_count=None),
        precision=precision,
        checkpointing=replace(job.checkpointing, mode="none"),
        parallelism=replace(job.parallelism, neox=replace(engine, in_flight=forwards), model_shards=1),
    )


def _weights(parts: Sequence[str], config: Mapping[str, ConfigValue]) -> list[int]:
    """Parameters of each part on a rank, as DeepSpeed counts them for the method `parameters`."""
    hidden, inner = share_of(config, "hidden_size", 1), share_of(config, "intermediate_size", 1)
    heads, size = share_of(config, "num_attention_heads", 1), share_of(config, "head_dim", 1)
    groups = share_of(config, "num_key_value_heads", 1)
    norm = hidden * (1 if config.get("norm") == "rmsnorm" else 2)
    mixed, wide = (heads + 2 * groups) * size, (2 if config.get("gate") else 1) * inner
    layer = hidden * (mixed + heads * size + wide + inner) + 2 * norm
    layer += (mixed + hidden) if config.get("attention_bias") else 0
    layer += (wide + hidden) if config.get("mlp_bias") else 0
    words = share_of(config, "vocab_size", 1) * hidden
    learned = share_of(config, "max_position_embeddings", 1) * hidden if config.get("pos_emb") == "learned" else 0
    sizes = {EMBED: words + learned, LAYER: layer, NORM: norm, HEAD: words}
    return [sizes.get(part, 0) for part in parts]


def _segments(parts: Sequence[str], interval: int) -> ConfigValue:
    """Layers of a stage, in groups that are recomputed together (PipelineModule.forward): those of layers alone."""
    found: list[tuple[int, bool]] = []
    step = interval or 1
    for start in range(0, len(parts), step):
        group = parts[start : start + step]
        layers = group.count(LAYER)
        recomputed = interval > 0 and layers == len(group)
        if layers:
            found += [(layers, True)] if recomputed else [(1, False)] * layers
    return tuple(found)

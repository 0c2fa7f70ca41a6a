"""What ranks of Megatron-Core send one another in an optimizer step, and how long its pipeline waits.

https://arxiv.org/abs/2104.04473 (pipeline, section 2.2; tensor parallelism, section 2.3), https://arxiv.org/abs/2205.05198
(sequence parallelism, section 4.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vramlint.estimate import Estimate, Traffic
from vramlint.job import DTYPE_BYTES, ConfigValue, Job, Megatron

LINK = "gpus"


def bubble(job: Job) -> float:
    """Part of a step in which a stage waits: (p - 1)/(m + p - 1), of interleaved chunks v times less behind the m."""
    engine = job.parallelism.megatron
    if engine is None or engine.pipeline == 1:
        return 0.0
    waits = (engine.pipeline - 1) / engine.chunks
    return waits / (job.batch.gradient_accumulation_steps + waits)


def replicas(job: Job) -> int:
    """Ranks that train on other data: what tensor, context and pipeline parallelism leave."""
    engine = job.parallelism.megatron or Megatron()
    return max(1, job.parallelism.world_size // (engine.tensor * engine.context * engine.pipeline))


def exchanged(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """All that one rank in the middle of the pipeline sends."""
    engine, config = job.parallelism.megatron, job.model.config.get("megatron")
    if engine is None or not isinstance(config, Mapping):
        return
    batches = job.batch.gradient_accumulation_steps
    width = DTYPE_BYTES[job.precision.autocast or job.precision.weights]
    tokens = job.batch.micro_batch_size * -(-job.batch.sequence_length // engine.context)
    hidden = tokens * _integer(config, "hidden_size") * width
    layers = max(1, _integer(config, "num_hidden_layers") // engine.pipeline)
    yield from _gradients(job, engine, estimate, width)
    if engine.tensor > 1:
        yield _of_tensors(engine, hidden * layers * batches)
    if engine.pipeline > 1:
        across = hidden // engine.tensor if engine.sequence else hidden
        count = 2 * engine.chunks * batches
        yield Traffic("stages, point to point", LINK, count * across, f"{count} × activations of a micro batch")
    if engine.context > 1:
        keys = 2 * tokens * _integer(config, "num_key_value_heads") * _integer(config, "head_dim") * width
        data = keys // engine.tensor * layers * batches
        rounds = f"{engine.context} - 1"
        yield Traffic(
            "ring attention", LINK, 3 * (engine.context - 1) * data, f"3 × ({rounds}) × keys and values of a share"
        )
    if engine.expert > 1 and _integer(config, "experts"):
        chosen = _integer(config, "experts_per_token") or 1
        data = hidden // (engine.tensor if engine.sequence else 1) * chosen * layers * batches
        yield _share("experts, all-to-all", data, engine.expert, 4, "tokens of their experts")


def _gradients(job: Job, engine: Megatron, estimate: Estimate, width: int) -> Iterator[Traffic]:
    """Of all ranks that hold the same weights, those of context parallelism among them; experts are taken along."""
    ranks = replicas(job) * engine.context
    if ranks <= 1:
        return
    elements = estimate.trainable_parameters
    reduced = elements * (4 if engine.wide_gradients else width)
    if engine.distributed_optimizer:
        yield _share("gradients, reduce-scatter", reduced, ranks, 1, "gradients")
        yield _share("updated weights, all-gather", elements * width, ranks, 1, "weights")
    else:
        yield _share("gradients, all-reduce", reduced, ranks, 2, "gradients")


def _of_tensors(engine: Megatron, hidden: int) -> Traffic:
    """Two all-reduces a layer in each direction, or as many gathers and scatters and the gathers of saved inputs."""
    again = engine.recompute == "full"
    if engine.sequence:
        return _share(
            "matrices, all-gather and reduce-scatter", hidden, engine.tensor, 14 if again else 10, "activations"
        )
    return _share("matrices, all-reduce", hidden, engine.tensor, 2 * (6 if again else 4), "activations")


def _share(name: str, data: int, ranks: int, times: int, what: str) -> Traffic:
    count = f"{times} × " if times > 1 else ""
    return Traffic(name, LINK, times * data * (ranks - 1) // ranks, f"{count}{what} × ({ranks} - 1)/{ranks}")


def _integer(config: Mapping[str, ConfigValue], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) else 0

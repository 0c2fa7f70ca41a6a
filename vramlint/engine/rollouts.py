"""Samples that a trainer of TRL generates with the model itself: how many at once, and what their cache takes."""

from __future__ import annotations

from vramlint.job import DTYPE_BYTES, Job

PLAIN = frozenset(
    {"granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3"}
)
"""Architectures that keep the keys and values of every layer and position, where no window is given (transformers 5.23
models/*; cache_utils.py, DynamicCache)."""


def cache_bytes_per_token(job: Job) -> int | None:
    """Bytes of the keys and values of one position in all layers; None where the model's sizes do not say it."""
    config = job.model.config
    if job.model.model_type not in PLAIN or (
        config.get("sliding_window") and config.get("use_sliding_window") is not False
    ):
        return None
    layers, heads, hidden = (config.get(key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(hidden, int) and heads > 0):
        return None
    keys, size = config.get("num_key_value_heads", heads), config.get("head_dim", hidden // heads)
    if not (isinstance(keys, int) and isinstance(size, int)):
        return None
    return 2 * layers * keys * size * DTYPE_BYTES[job.precision.autocast or job.precision.weights]


def rows_at_once(job: Job, steps: object, batch: object) -> int:
    """Samples that one GPU generates at once.

    As many micro batches as a step has, unless `steps_per_generation` or the `generation_batch_size` of all GPUs says
    otherwise (trl 1.16 trainer/grpo_config.py, __post_init__).
    """
    if isinstance(steps, int):
        return job.batch.micro_batch_size * steps
    if isinstance(batch, int):
        return batch // max(1, job.parallelism.world_size)
    return job.batch.micro_batch_size * job.batch.gradient_accumulation_steps

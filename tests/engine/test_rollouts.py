"""Caches of generated samples."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vramlint.engine.rollouts import cache_bytes_per_token, rows_at_once
from vramlint.job import Batch, ConfigValue, Job, Model, Parallelism, Precision

SIZES: dict[str, ConfigValue] = {"num_hidden_layers": 28, "num_attention_heads": 12, "hidden_size": 1536}


def job(kind: str = "qwen2", weights: str = "bfloat16", autocast: str | None = None, **config: ConfigValue) -> Job:
    return Job(Model("any", kind, {**SIZES, **config}), precision=Precision(weights, autocast))


@pytest.mark.parametrize(
    ("subject", "size"),
    [
        (job(num_key_value_heads=2), 2 * 28 * 2 * 128 * 2),
        (job(), 2 * 28 * 12 * 128 * 2),
        (job(head_dim=64), 2 * 28 * 12 * 64 * 2),
        (job(weights="float32"), 2 * 28 * 12 * 128 * 4),
        (job(weights="float32", autocast="float16"), 2 * 28 * 12 * 128 * 2),
        (job(sliding_window=4096, use_sliding_window=False), 2 * 28 * 12 * 128 * 2),
        (job(sliding_window=4096), None),
        (job(sliding_window=4096, use_sliding_window=True), None),
        (job("gemma3"), None),
        (job(num_hidden_layers=None), None),
        (job(num_attention_heads=0), None),
        (job(hidden_size="wide"), None),
        (job(num_key_value_heads="two"), None),
    ],
)
def test_the_cache_of_a_token(subject: Job, size: int | None) -> None:
    assert cache_bytes_per_token(subject) == size


def test_samples_at_once() -> None:
    subject = replace(job(), batch=Batch(8, 512, 4), parallelism=Parallelism(2, "ddp"))

    assert rows_at_once(subject, None, None) == 32
    assert rows_at_once(subject, 2, 100) == 16
    assert rows_at_once(subject, None, 100) == 50

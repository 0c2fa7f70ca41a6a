"""Floating-point operations: as torch's FlopCounterMode counted them over real models, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.cases import job_of
from bench.flops import GROUPED
from vramlint.job import Adapter, Batch, Checkpointing, Job, Model, Objective, Precision, Quantization
from vramlint.memory import simulate

ROWS = [
    json.loads(line) for line in Path("bench/data/flops.jsonl").read_text(encoding="utf-8").splitlines() if line.strip()
]
_CONFIG = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "tie_word_embeddings": False,
}
TOKENS = 2 * 64
LAYER = 256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 512
"""Weights of a layer's products."""
HEAD = 256 * 1000
SCORES = 2 * 2 * 4 * 64 * 64 * 64
"""Of one product of attention: batch 2, heads 4, 64 by 64 positions, head size 64."""


def _job(**parts: Any) -> Job:
    model = Model("tiny", "llama", _CONFIG)
    return replace(Job(model, precision=Precision("bfloat16"), batch=Batch(2, 64)), **parts)


def flops(job: Job, part: str = "", kind: str = "", *, layers: bool | None = None) -> int:
    return sum(
        work.flops
        for work in simulate(job, reserved=False).work
        if part in ("", work.part) and kind in ("", work.kind) and layers in (None, work.layers)
    )


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_every_product_that_torch_counts_is_counted(row):
    work = simulate(job_of(row), reserved=False, observed=True).work
    forward = sum(part.flops for part in work if part.part == "forward")
    assert forward == pytest.approx(row["result"]["forward"], rel=1e-4)
    if row["config"]["model_type"] not in GROUPED:
        rest = sum(part.flops for part in work) - forward
        assert rest == pytest.approx(row["result"]["backward"], rel=1e-4)


def test_a_dense_step_takes_two_products_for_each_in_forward():
    job = _job()
    assert flops(job, "forward", "linear") == 2 * TOKENS * (8 * LAYER + HEAD)
    assert flops(job, "backward", "linear") == 4 * TOKENS * (8 * LAYER + HEAD)
    assert flops(job, "forward", "attention") == 8 * 2 * SCORES
    assert flops(job, "backward", "attention") == 8 * 5 * SCORES
    assert flops(job, "recomputed") == 0
    assert flops(job, "forward", layers=False) == 2 * TOKENS * HEAD


def test_frozen_weights_take_no_gradient_of_their_own():
    adapted = _job(adapter=Adapter(r=8, target_modules="all-linear"))
    factors = 8 * (2 * 8 * (256 + 256) + 2 * 8 * (256 + 128) + 3 * 8 * (256 + 512))
    # the first layer's input needs no gradient: three products of its bases pass none on
    inputs = 256 * 256 + 2 * 256 * 128
    assert flops(adapted, "backward", "linear") == 2 * TOKENS * (
        8 * LAYER + HEAD - inputs + 2 * factors - 8 * (256 + 256 + 256)
    )


def test_quantized_bases_take_as_much_as_dense_ones():
    adapter = Adapter(r=8, target_modules="all-linear")
    dense = _job(adapter=adapter)
    packed = _job(adapter=adapter, quantization=Quantization("nf4", compute_dtype="bfloat16"))
    assert flops(packed) == flops(dense)


def test_a_reentrant_checkpoint_computes_its_layers_again_and_another_stops_when_nothing_is_wanted():
    again = flops(_job(checkpointing=Checkpointing("reentrant")), "recomputed")
    assert again == flops(_job(), "forward", layers=True)
    early = flops(_job(checkpointing=Checkpointing("nonreentrant")), "recomputed")
    assert early == again - 8 * 2 * TOKENS * 256 * 512  # the product that ends the layer


def test_selective_checkpointing_computes_less_again():
    full = flops(_job(checkpointing=Checkpointing("nonreentrant")), "recomputed")
    selective = flops(_job(checkpointing=Checkpointing("nonreentrant", selective=True)), "recomputed")
    assert 0 < selective < full
    other = flops(_job(checkpointing=Checkpointing("nonreentrant", every_n_layers=2)), "recomputed")
    assert other == full // 2


@pytest.mark.parametrize(("loss", "more"), [("fused", 0), ("chunked", 1), ("cut", 1), ("unsloth", 0)])
def test_heads_fused_with_the_loss_take_their_products_and_maybe_the_logits_again(loss, more):
    plain, fused = _job(), _job(objective=Objective(loss=loss))
    head = 2 * TOKENS * HEAD
    found = flops(fused) - flops(plain)
    shifted = 2 * 2 * HEAD * (3 + more) if loss == "chunked" else 0  # the last position of each row has no label
    assert found == pytest.approx(more * head - shifted, abs=1)


def test_accumulation_does_not_count_twice():
    assert flops(_job(batch=Batch(2, 64, 4))) == flops(_job())
    assert flops(_job(objective=Objective(loop="script"))) == flops(_job())


def test_patterns_with_a_class_of_digits_tell_layers_apart():
    half = _job(frozen_parameters=(r"embed_tokens", r"layers\.[0-3]\."))
    by_class = _job(frozen_parameters=(r"embed_tokens", r"layers\.\d\."))
    assert flops(half, "backward", "linear") == 4 * TOKENS * (4 * LAYER + HEAD)
    assert flops(by_class, "backward", "linear", layers=True) == 0


def test_adapters_on_experts_make_the_weight_of_each_with_its_own_rank():
    experts = {"num_experts": 16, "num_experts_per_tok": 2}
    model = Model("m", "olmoe", {**_CONFIG, **experts})
    plain = _job(model=model)
    adapted = _job(model=model, adapter=Adapter(r=8, target_modules="all-linear"))
    base = flops(_job(model=model, adapter=Adapter(r=8, target_modules=("q_proj",))), "forward")
    # layers and experts; gate and up are one parameter whose adapter has both of their ranks
    merged = 8 * 16 * 2 * (16 * 1024 * 256 + 8 * 256 * 512)
    assert merged <= flops(adapted, "forward") - flops(plain, "forward") < 1.2 * merged
    assert base < flops(adapted, "forward")

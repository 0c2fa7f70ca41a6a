"""The elder decoders: what tells their blocks from a llama's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from vramlint.job import Attention, Batch, Checkpointing, Job, Libraries, Model, Precision
from vramlint.memory import simulate

BEFORE_FIVE = Libraries(transformers=(4, 57, 6))
LAYERS, BATCH, LENGTH, HIDDEN, HEADS = 6, 2, 64, 128, 4
GPT = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": 500, "n_positions": 256, "rotary_dim": 16}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "bloom": {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": 500},
    "codegen": GPT,
    "falcon": {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": 500,
        "multi_query": False,
        "parallel_attn": False,
        "alibi": True,
    },
    "gpt_bigcode": GPT,
    "gpt_neo": {"hidden_size": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS, "vocab_size": 500},
    "gptj": GPT,
    "mpt": {"d_model": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "vocab_size": 500, "max_seq_len": 256},
    "openai-gpt": GPT,
    "xglm": {"d_model": HIDDEN, "num_layers": LAYERS, "attention_heads": HEADS, "ffn_dim": 512, "vocab_size": 500},
}


def elder(model_type: str, config: Mapping[str, Any] | None = None, **parts: Any) -> Job:
    """A job for a small elder decoder."""
    model = Model("x", model_type, {**CONFIGS[model_type], **(config or {})})
    return replace(Job(model, batch=Batch(BATCH, LENGTH), precision=Precision("bfloat16")), **parts)


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
@pytest.mark.parametrize("mode", ["none", "nonreentrant", "reentrant"])
def test_repeated_blocks_equal_blocks_traced_one_by_one(model_type, mode, monkeypatch):
    job = elder(model_type, checkpointing=Checkpointing(mode))
    repeated = simulate(job, reserved=False)

    monkeypatch.setattr("vramlint.memory.repetition.SINGLE_LAYERS", LAYERS)
    single = simulate(job, reserved=False)

    assert (repeated.allocated, repeated.saved_activations) == (single.allocated, single.saved_activations)


@pytest.mark.parametrize(
    ("model_type", "config", "parts", "variant"),
    [
        ("gpt_bigcode", {}, {"libraries": Libraries(transformers=(4, 53, 0))}, "before 4.54"),
        ("gpt_bigcode", {"add_cross_attention": True}, {}, "cross-attention"),
        ("gptj", {"rotary_dim": None}, {}, "rotary_dim"),
        ("falcon", {}, {"attention": Attention("flash_attention_2")}, "alibi"),
    ],
)
def test_variants_that_are_not_followed_are_named(model_type, config, parts, variant):
    estimate = simulate(elder(model_type, config=config, **parts))

    assert estimate.method == "bounded"
    assert variant in estimate.notes[0]


def saved(model_type: str, mode: str, **parts: Any) -> int:
    """What a checkpointed elder decoder keeps for its backward."""
    job = elder(model_type, checkpointing=Checkpointing(mode), **parts)
    return simulate(job, reserved=False).saved_activations


def test_gpt_bigcode_recomputed_nothing_in_transformers_4():
    kept = saved("gpt_bigcode", "none")

    assert saved("gpt_bigcode", "nonreentrant", libraries=BEFORE_FIVE) == kept
    assert saved("gpt_bigcode", "nonreentrant") < kept / 2


def test_one_key_head_needs_less_than_one_per_query_head():
    shared = simulate(elder("gpt_bigcode"), reserved=False)
    apart = simulate(elder("gpt_bigcode", config={"multi_query": False}), reserved=False)

    fused = 2 * HIDDEN * (1 - 1 / HEADS)
    assert apart.total_parameters - shared.total_parameters == LAYERS * fused * (HIDDEN + 1)
    assert shared.saved_activations < apart.saved_activations


def test_clipped_projections_keep_what_they_were():
    plain = simulate(elder("mpt"), reserved=False).saved_activations
    clipped = simulate(elder("mpt", config={"attn_config": {"clip_qkv": 6}}), reserved=False).saved_activations

    assert clipped - plain == LAYERS * BATCH * LENGTH * 3 * HIDDEN * 2


@pytest.mark.parametrize("model_type", ["bloom", "gpt_neo", "gptj", "mpt"])
def test_a_reentrant_checkpoint_differentiates_the_probabilities_that_blocks_return(model_type):
    def backward(mode: str) -> int:
        job = elder(model_type, batch=Batch(BATCH, 1024), checkpointing=Checkpointing(mode))
        return {phase.phase: phase.allocated for phase in simulate(job, reserved=False).phases}["backward"]

    probabilities = BATCH * HEADS * 1024 * 1024 * 2
    assert backward("reentrant") - backward("nonreentrant") >= probabilities

"""Encoder-decoders: their published sizes, their checkpoints, and the variants that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from vramlint.catalog.models import all_models
from vramlint.job import Adapter, Batch, Checkpointing, Job, Libraries, Model, Precision
from vramlint.memory import simulate
from vramlint.memory.architectures import FAMILIES

TASKS = ("seq2seq-lm", "speech-seq2seq")
PUBLISHED = [
    (task, row) for task in TASKS for row in all_models() if row.model_type in FAMILIES[task] and row.parameter_count
]
SHAPE = {
    "d_model": 256,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "vocab_size": 1000,
}
T5 = {"d_model": 256, "d_kv": 64, "num_layers": 4, "num_heads": 4, "d_ff": 512, "vocab_size": 1000}
CONFIGS: dict[str, dict[str, Any]] = {
    # what a rank of Megatron holds has other keys, and its recomputation is the engine's (test_ranks.py)
    **dict.fromkeys(FAMILIES["seq2seq-lm"].keys() - {"megatron"}, SHAPE),
    **dict.fromkeys(("t5", "mt5", "umt5"), T5),
}
LORA = Adapter(8, 0.0, ("q_proj", "v_proj"))
VERSION_4 = Libraries(transformers=(4, 57))


def small(model_type: str, **parts: Any) -> Job:
    """A small text-to-text model of a kind."""
    job = Job(Model("small", model_type, CONFIGS[model_type], task="seq2seq-lm"), batch=Batch(2, 96, target_length=64))
    return replace(job, **parts)


@pytest.mark.parametrize(("task", "row"), PUBLISHED, ids=lambda value: getattr(value, "id", value))
def test_published_models_have_their_parameters(task, row):
    job = Job(Model(row.id, row.model_type, row.config, task=task), batch=Batch(1, 16))

    assert simulate(job, reserved=False).total_parameters == row.parameter_count


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
@pytest.mark.parametrize("libraries", [Libraries(), VERSION_4], ids=["5", "4"])
def test_each_way_of_checkpointing_keeps_little(model_type, libraries):
    job = small(model_type, libraries=libraries, precision=Precision("float32", "bfloat16"))
    kept = simulate(job, reserved=False).saved_activations

    for mode in ("reentrant", "nonreentrant"):
        estimate = simulate(replace(job, checkpointing=Checkpointing(mode)), reserved=False)
        assert estimate.method == "simulated"
        assert estimate.saved_activations < kept / 2


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_targets_are_as_long_as_they_are_said_to_be(model_type):
    job = small(model_type)
    longer = replace(job, batch=replace(job.batch, target_length=128))

    assert simulate(longer, reserved=False).allocated > simulate(job, reserved=False).allocated


@pytest.mark.parametrize(
    ("job", "variant"),
    [
        (small("bart", model=Model("x", "bart", {**SHAPE, "tie_word_embeddings": False}, task="seq2seq-lm")), "untied"),
        (
            small("bart", adapter=LORA, checkpointing=Checkpointing("reentrant"), libraries=VERSION_4),
            "no input requires a gradient",
        ),
        (
            Job(
                Model("x", "whisper", {}, task="speech-seq2seq"),
                checkpointing=Checkpointing("reentrant"),
                libraries=VERSION_4,
            ),
            "reentrant checkpoint of Whisper's decoder",
        ),
        (Job(Model("x", "whisper", {"use_weighted_layer_sum": True}, task="audio-cls")), "use_weighted_layer_sum"),
    ],
    ids=["untied", "frozen checkpoint", "Whisper's checkpoint", "weighted layers"],
)
def test_what_is_not_followed_is_named(job, variant):
    estimate = simulate(job)

    assert estimate.method == "bounded"
    assert variant in estimate.notes[0]


def test_a_frozen_speech_encoder_keeps_nothing():
    job = Job(Model("x", "whisper", {}, task="speech-seq2seq"), batch=Batch(1, 64), precision=Precision("bfloat16"))
    frozen = replace(job, frozen_parameters=(r"^model\.encoder\.",))

    whole, part = simulate(job, reserved=False), simulate(frozen, reserved=False)
    assert part.parameters == whole.parameters
    assert part.gradients < whole.gradients
    assert part.saved_activations < whole.saved_activations / 4


def test_a_spectrogram_is_as_long_as_the_model_takes_it():
    job = Job(Model("x", "whisper", {}, task="speech-seq2seq"), batch=Batch(1, 64))
    shorter = replace(job, model=replace(job.model, config={"max_source_positions": 750}))

    assert simulate(shorter, reserved=False).saved_activations < simulate(job, reserved=False).saved_activations * 2 / 3

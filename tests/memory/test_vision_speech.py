"""Vision models, speech encoders and dual encoders beyond their traced steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from vramlint.catalog.models import all_models
from vramlint.job import Adapter, Attention, Batch, Checkpointing, Evaluation, Job, Model, Parallelism, Precision
from vramlint.memory import simulate

TASKS = {
    "ForImageClassification": "image-cls",
    "ForCTC": "ctc",
    "CLIPModel": "contrastive",
    "SiglipModel": "contrastive",
}
FOLLOWED = ("beit", "clip", "convnext", "hubert", "resnet", "siglip", "swin", "vit", "wav2vec2")
ROWS = [
    (row, task)
    for row in all_models()
    for name, task in TASKS.items()
    if row.architecture.endswith(name) and row.model_type in FOLLOWED and row.parameter_count
]
WAVES = Batch(2, 16000, attention_mask=False)
IMAGES = Batch(4, 1)
PAIRS = Batch(4, 77)
DEEP_TOWERS = {"text_config": {"num_hidden_layers": 7}, "vision_config": {"num_hidden_layers": 6}}
DEEP = {
    "dinov2": ("image-cls", {"num_hidden_layers": 9, "image_size": 224, "drop_path_rate": 0.1}, IMAGES),
    "beit": ("image-cls", {"num_hidden_layers": 9, "use_relative_position_bias": True}, IMAGES),
    "swin": ("image-cls", {"depths": (2, 2, 12, 2)}, IMAGES),
    "wav2vec2": ("audio-cls", {"num_hidden_layers": 9, "use_weighted_layer_sum": True}, WAVES),
    "hubert": ("ctc", {"num_hidden_layers": 9}, WAVES),
    "clip": ("contrastive", DEEP_TOWERS, PAIRS),
    "siglip": ("contrastive", DEEP_TOWERS, Batch(4, 64)),
}
MODES = ["none", "nonreentrant", "reentrant"]


def job(model_type: str, task: str, config: Mapping[str, Any], batch: Batch, **parts: Any) -> Job:
    """A small model of this type."""
    return Job(Model("small", model_type, config, task=task), batch=batch, **parts)


@pytest.mark.parametrize(("row", "task"), ROWS, ids=lambda value: getattr(value, "id", value))
def test_models_have_the_catalog_s_parameters(row, task):
    estimate = simulate(job(row.model_type, task, row.config, WAVES), reserved=False)

    assert estimate.method == "simulated"
    assert estimate.total_parameters == row.parameter_count


@pytest.mark.parametrize("model_type", DEEP)
@pytest.mark.parametrize("mode", MODES)
def test_repeated_layers_equal_layers_traced_one_by_one(model_type, mode, monkeypatch):
    checkpointing, precision = Checkpointing(mode), Precision("float32", "bfloat16")
    deep = job(model_type, *DEEP[model_type], checkpointing=checkpointing, precision=precision)
    repeated = simulate(deep, reserved=False)

    monkeypatch.setattr("vramlint.memory.repetition.SINGLE_LAYERS", 24)
    single = simulate(deep, reserved=False)

    assert repeated.method == "simulated"
    assert (repeated.phases, repeated.saved_activations) == (single.phases, single.saved_activations)


@pytest.mark.parametrize("model_type", DEEP)
def test_checkpointing_keeps_less_and_shards_are_smaller(model_type):
    whole = job(model_type, *DEEP[model_type], attention=Attention("eager"))
    recomputed = replace(whole, checkpointing=Checkpointing("nonreentrant"))
    sharded = replace(whole, parallelism=Parallelism(4, "fsdp"))

    assert simulate(recomputed).saved_activations < simulate(whole).saved_activations / 2
    assert simulate(sharded).optimizer_states < simulate(whole).optimizer_states / 3


@pytest.mark.parametrize(
    ("model_type", "made"),
    [("swin", "drop path"), ("wav2vec2", "time mask"), ("hubert", "time mask")],
)
def test_evaluation_drops_no_paths_and_masks_nothing(model_type, made):
    log = simulate(job(model_type, *DEEP[model_type], evaluation=Evaluation(2)), log=True).log
    assert log is not None
    phases = {stretch.phase for stretch in log.stretches for at, _ in stretch.events if log.names[at].startswith(made)}

    assert "forward" in phases
    assert "evaluation" not in phases


def test_a_frozen_feature_encoder_keeps_nothing_of_its_convolutions():
    learning = job("wav2vec2", "ctc", {}, WAVES)
    frozen = replace(learning, frozen_parameters=(r"^wav2vec2\.feature_extractor\.",))
    convolutions = 512 * 2 * 16000 // 5 * 4  # one tensor behind the first of seven

    assert simulate(frozen).saved_activations < simulate(learning).saved_activations - 3 * convolutions


@pytest.mark.parametrize(
    ("model_type", "task", "config", "mode", "reason"),
    [
        ("swin", "image-cls", {"image_size": 225}, "none", "multiple of its patches"),
        ("swin", "image-cls", {"image_size": 112}, "none", "smaller than its window"),
        ("beit", "image-cls", {"use_shared_relative_position_bias": True}, "reentrant", "relative position bias"),
        ("wav2vec2", "ctc", {"add_adapter": True}, "none", "adapter"),
        ("hubert", "ctc", {"conv_pos_batch_norm": True}, "none", "batch norm"),
        ("convnext", "image-cls", {}, "nonreentrant", "checkpointing"),
        ("resnet", "image-cls", {}, "nonreentrant", "checkpointing"),
    ],
)
def test_variants_that_are_not_followed_are_named(model_type, task, config, mode, reason):
    estimate = simulate(job(model_type, task, config, WAVES, checkpointing=Checkpointing(mode)), reserved=False)

    assert estimate.method != "simulated"
    assert any(reason in note for note in estimate.notes)


@pytest.mark.parametrize(
    ("model_type", "adapter", "trained"),
    [
        ("resnet", Adapter(4, 0.0, ("embedder.embedder.convolution",)), 4 * 3 * 7 * 7 + 64 * 4),
        ("convnext", Adapter(4, 0.0, ("patch_embeddings",)), 4 * 3 * 4 * 4 + 96 * 4),
    ],
)
def test_low_rank_convolutions(model_type: str, adapter: Adapter, trained: int) -> None:
    estimate = simulate(job(model_type, "image-cls", {}, IMAGES, adapter=adapter), reserved=False)

    assert estimate.method == "simulated"
    assert estimate.trainable_parameters == trained


def test_adapters_on_grouped_convolutions_are_named() -> None:
    estimate = simulate(job("convnext", "image-cls", {}, IMAGES, adapter=Adapter(4, 0.0, ("dwconv",))))

    assert "LoRA on a plain convolution" in estimate.why

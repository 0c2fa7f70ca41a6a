"""Encoders and their heads beyond their traced steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from vramlint.catalog.models import all_models
from vramlint.job import Attention, Batch, Checkpointing, Job, Libraries, Model, Precision
from vramlint.memory import simulate
from vramlint.memory.architectures import ENCODER_TASKS, ENCODERS, FAMILIES, find_family, is_simulated
from vramlint.surfaces.families import model_type_of_class

ROWS = [
    row
    for row in all_models()
    if row.model_type in FAMILIES["masked-lm"] and row.architecture.endswith("ForMaskedLM") and row.parameter_count
]
WITHOUT_CHECKPOINTING = ("albert", "mpnet")
SHAPE = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 500,
    "num_hidden_layers": 9,
}
DISENTANGLED = {"relative_attention": True, "pos_att_type": "c2p|p2c", "position_buckets": 32, "share_att_key": True}
UNCOMPILED = {"reference_compile": False}
OWN: Mapping[str, Mapping[str, Any]] = {
    "albert": {"embedding_size": 16},
    "deberta": DISENTANGLED,
    "deberta-v2": {**DISENTANGLED, "conv_kernel_size": 3},
    "distilbert": {"n_layers": 9, "dim": 64, "hidden_dim": 128, "n_heads": 4},
    "electra": {"embedding_size": 16},
}


def job(model_type: str, task: str, config: Mapping[str, Any] | None = None, **parts: Any) -> Job:
    """A small model of this type."""
    merged = {**SHAPE, **OWN.get(model_type, {}), **(config or {})}
    return Job(Model("small", model_type, merged, task=task), batch=Batch(2, 64), **parts)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_models_have_the_catalog_s_parameters(row):
    estimate = simulate(Job(Model("x", row.model_type, row.config, task="masked-lm")), reserved=False)

    assert estimate.method == "simulated"
    assert estimate.total_parameters == row.parameter_count


@pytest.mark.parametrize("model_type", ENCODERS)
@pytest.mark.parametrize("task", ["masked-lm", "seq-cls", *ENCODER_TASKS])
def test_every_encoder_has_every_head(model_type, task):
    assert find_family(model_type, task) is not None
    assert simulate(job(model_type, task), reserved=False).method == "simulated"


@pytest.mark.parametrize("model_type", sorted(ENCODERS.keys() - {"nomic_bert"}))
def test_older_eager_attention_keeps_no_less(model_type):
    eager = job(model_type, "qa", UNCOMPILED, attention=Attention("eager"))
    older = replace(eager, libraries=Libraries(transformers=(4, 57, 6)))

    assert simulate(older, reserved=False).method == "simulated"
    assert simulate(older, reserved=False).allocated >= 0.99 * simulate(eager, reserved=False).allocated


@pytest.mark.parametrize("model_type", ENCODERS)
@pytest.mark.parametrize("mode", ["none", "nonreentrant", "reentrant"])
def test_repeated_layers_equal_layers_traced_one_by_one(model_type, mode, monkeypatch):
    if model_type in WITHOUT_CHECKPOINTING and mode != "none":
        return
    precision = Precision("float32", "bfloat16")
    deep = job(model_type, "token-cls", checkpointing=Checkpointing(mode), precision=precision)
    repeated = simulate(deep, reserved=False)

    monkeypatch.setattr("vramlint.memory.repetition.SINGLE_LAYERS", 24)
    single = simulate(deep, reserved=False)

    assert repeated.method == "simulated"
    assert (repeated.phases, repeated.saved_activations) == (single.phases, single.saved_activations)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_every_text_of_a_sample_takes_a_run(model_type):
    pair, triplet = (simulate(job(model_type, task, UNCOMPILED), reserved=False) for task in ENCODER_TASKS[2:])

    assert triplet.saved_activations == pytest.approx(1.5 * pair.saved_activations, rel=0.01)
    assert triplet.gradients == pair.gradients


@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_a_softmax_of_its_own_keeps_no_mask(model_type):
    newer = job(model_type, "qa", libraries=Libraries(transformers=(4, 47, 0)))
    older = replace(newer, libraries=Libraries(transformers=(4, 46, 3)))
    masks = 9 * 2 * 64 * 64

    kept = simulate(newer, reserved=False).saved_activations - simulate(older, reserved=False).saved_activations
    assert kept == pytest.approx(masks, rel=0.1)


@pytest.mark.parametrize("task", ["masked-lm", "seq-cls", "token-cls"])
@pytest.mark.parametrize("mode", ["none", "nonreentrant", "reentrant"])
def test_esm_rotates_or_adds_positions(task, mode, monkeypatch):
    rotating = job("esm", task, {"position_embedding_type": "rotary"}, checkpointing=Checkpointing(mode))
    adding = simulate(job("esm", task, checkpointing=Checkpointing(mode)), reserved=False)
    repeated = simulate(rotating, reserved=False)
    monkeypatch.setattr("vramlint.memory.repetition.SINGLE_LAYERS", 24)

    assert simulate(rotating, reserved=False).phases == repeated.phases
    assert adding.total_parameters - repeated.total_parameters == 1026 * 64


def test_modernbert_mostly_looks_around_itself():
    longer = job("modernbert", "token-cls", {"local_attention": 64})
    shorter = job("modernbert", "token-cls", {"local_attention": 256})

    assert simulate(longer, reserved=False).saved_activations > simulate(shorter, reserved=False).saved_activations


def test_albert_shares_its_layers():
    shallow, deep = (simulate(job("albert", "qa", {"num_hidden_layers": count}), reserved=False) for count in (3, 9))

    assert shallow.total_parameters == deep.total_parameters
    assert shallow.gradients == deep.gradients
    assert shallow.saved_activations < deep.saved_activations


@pytest.mark.parametrize(
    ("model_type", "config", "mode", "reason"),
    [
        ("albert", {}, "nonreentrant", "checkpointing of ALBERT"),
        ("mpnet", {}, "nonreentrant", "checkpointing of MPNet"),
        ("esm", {}, "none", "ESM before"),
        ("nomic_bert", {}, "none", "Nomic BERT before"),
        ("modernbert", {}, "none", "compiles its MLPs"),
        ("modernbert", {"sparse_prediction": True, **UNCOMPILED}, "none", "masked tokens only"),
        ("deberta", {"talking_head": True}, "none", "talking_head"),
        ("bert", {"position_embedding_type": "relative_key"}, "none", "relative_key"),
        ("deberta-v2", {"norm_rel_ebd": "layer_norm"}, "reentrant", "normed relative positions"),
    ],
)
def test_variants_that_are_not_followed_are_named(model_type, config, mode, reason):
    older = Libraries(transformers=(4, 57, 6))
    estimate = simulate(
        job(model_type, "masked-lm", config, checkpointing=Checkpointing(mode), libraries=older), reserved=False
    )

    assert estimate.method != "simulated"
    assert any(reason in note for note in estimate.notes)


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("CamembertForTokenClassification", "camembert"),
        ("DebertaForMaskedLM", "deberta"),
        ("DebertaV2ForMaskedLM", "deberta-v2"),
        ("EsmForMaskedLM", "esm"),
        ("MPNetModel", "mpnet"),
        ("ModernBertForMaskedLM", "modernbert"),
        ("NomicBertForMaskedLM", "nomic_bert"),
    ],
)
def test_classes_name_their_encoders(name, model_type):
    assert model_type_of_class(name) == model_type
    assert is_simulated(model_type)

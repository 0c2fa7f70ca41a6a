"""The simulator against traced steps, and what must hold of every estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from bench.cases import job_of
from tests.memory.runs import LLAMA, jobs, llama
from vramlint.job import (
    Adapter,
    Batch,
    Checkpointing,
    Job,
    Libraries,
    Model,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
    Zero,
)
from vramlint.memory import simulate
from vramlint.memory.architectures import find_family

TRACED = sorted((Path(__file__).parents[2] / "bench" / "data").glob("traced_*.jsonl"))
ROWS = [json.loads(line) for path in TRACED for line in path.read_text(encoding="utf-8").splitlines()]
SIMULATED = [row for row in ROWS if find_family(row["config"]["model_type"], row["task"]) is not None]
PLAYED = [row for row in SIMULATED if crc32(row["id"].encode()) % 9 == 0]
"""A sample for the allocator, which takes most of the time; another row leaves it as it is."""
SEGMENT = 20 << 20

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("row", SIMULATED, ids=lambda row: row["id"])
def test_traced_steps(row):
    estimate = simulate(job_of(row), reserved=False, observed=True)
    result, steady = row["result"], row["result"]["steady_step"]

    assert estimate.method == "simulated"
    assert estimate.parameters == sum(result["parameter_bytes"].values())
    assert estimate.gradients == sum(result["grad_bytes"].values())
    assert estimate.optimizer_states == sum(result["optimizer_state_bytes"].values())
    assert estimate.peak_phase == steady["peak_phase"]
    assert estimate.allocated == pytest.approx(steady["peak"], rel=1e-4)
    # the tracer takes a decoder's own all-ones mask for a padded one where the encoder's is
    tolerance = 2e-3 if row["task"] == "seq2seq-lm" and row["case"].get("mask") == "pad" else 1e-3
    assert estimate.saved_activations == pytest.approx(steady["saved_activations"], rel=tolerance)


@pytest.mark.parametrize("row", PLAYED, ids=lambda row: row["id"])
def test_reserved_memory_of_traced_steps(row):
    """The tracer emulates the allocator too, and takes the oldest of equal free blocks where torch takes the lowest."""
    estimate = simulate(job_of(row), observed=True)

    assert estimate.reserved == pytest.approx(row["result"]["steady_step"]["peak_reserved"], rel=0.1, abs=2 * SEGMENT)
    assert estimate.reserved >= estimate.allocated


@pytest.mark.parametrize("mode", ["none", "reentrant", "nonreentrant"])
@pytest.mark.parametrize("precision", [Precision("bfloat16"), Precision("float32", "bfloat16")])
def test_repeated_layers_equal_layers_traced_one_by_one(mode, precision, monkeypatch):
    job = llama(config={"num_hidden_layers": 7}, checkpointing=Checkpointing(mode), precision=precision)
    repeated = simulate(job, reserved=False)

    monkeypatch.setattr("vramlint.memory.repetition.SINGLE_LAYERS", 7)
    single = simulate(job, reserved=False)

    assert repeated.allocated == single.allocated
    assert repeated.saved_activations == single.saved_activations
    assert {p.name: p.bytes for p in repeated.components} == {p.name: p.bytes for p in single.components}


def test_unknown_architecture_is_bounded_and_says_so():
    estimate = simulate(Job(Model("x", "made_up", {"hidden_size": 64}, parameter_count=10**9)))

    assert estimate.method == "bounded"
    assert estimate.allocated == 16 * 10**9 + 4  # the fused optimizer's step counter
    assert "made_up is not simulated" in estimate.notes[0]


@pytest.mark.parametrize(
    ("parallelism", "replicated"),
    [
        (Parallelism(8, "fsdp"), 0),
        (Parallelism(8, "deepspeed", Zero(stage=3, reduce_bucket_size=0, max_reuse_distance=0)), 0),
        (Parallelism(8, "deepspeed", Zero(stage=1, reduce_bucket_size=0)), 1),
    ],
    ids=["FSDP", "ZeRO stage 3", "ZeRO stage 1"],
)
def test_a_bound_shares_what_the_run_shares(parallelism, replicated):
    count = 8 * 10**8
    job = Job(Model("x", "made_up", {}, parameter_count=count), parallelism=parallelism)

    estimate = simulate(replace(job, objective=replace(job.objective, reference_model=True)))
    parts = {amount.name: amount.bytes for amount in estimate.components}

    assert parts["reference model"] == (4 * count if replicated else 4 * count // 8)
    assert parts["optimizer states"] == pytest.approx(8 * count // 8, abs=1024)
    assert parts["weights"] == (4 * count if replicated else 4 * count // 8)


def test_other_adapters_are_bounded_by_the_frozen_base():
    job = llama(adapter=Adapter(method="psoft"))

    estimate = simulate(replace(job, model=replace(job.model, parameter_count=1000)))

    assert estimate.method == "bounded"
    assert estimate.why.startswith("the psoft adapter is not simulated")
    assert [(amount.name, amount.bytes) for amount in estimate.components] == [("weights", 4000)]
    assert simulate(llama()).why == ""


def test_known_architecture_without_dimensions_is_bounded():
    estimate = simulate(Job(Model("x", "llama", {"hidden_size": 64}, parameter_count=1000)))

    assert estimate.method == "bounded"
    assert "intermediate_size" in estimate.notes[0] or "num_attention_heads" in estimate.notes[0]


def test_other_tasks_are_not_priced_as_causal_lm():
    job = llama()

    assert simulate(replace(job, model=replace(job.model, task="image-cls"))).method == "bounded"


def traced_job(model_type: str, **parts: Any) -> Job:
    """The job of the first traced row of a kind of model, with parts of it replaced."""
    row = next(row for row in SIMULATED if row["config"]["model_type"] == model_type)
    return replace(job_of(row), **parts)


@pytest.mark.parametrize(
    ("model_type", "parts", "variant"),
    [
        ("mixtral", {"adapter": Adapter(8, 0.1, "all-linear"), "libraries": Libraries()}, "dropout or DoRA"),
        ("mixtral", {"adapter": Adapter(8, 0.0, ("w1",)), "libraries": Libraries()}, "on w1 without the rest"),
        ("mixtral", {"adapter": Adapter(8, 0.0, r".*\.w[123]"), "libraries": Libraries()}, "pattern"),
        ("mixtral", {"adapter": Adapter(8, 0.0), "libraries": Libraries()}, "without target_modules"),
    ],
)
def test_variants_that_are_not_followed_are_named(model_type, parts, variant):
    estimate = simulate(traced_job(model_type, **parts))

    assert estimate.method == "bounded"
    assert variant in estimate.notes[0]


def test_an_adapter_on_attention_leaves_fused_experts_alone():
    job = traced_job("mixtral", adapter=Adapter(8, 0.0, ("q_proj", "v_proj")), libraries=Libraries())

    assert simulate(job, reserved=False).method == "simulated"


def test_peft_trains_the_head_of_a_classifier():
    job = traced_job("bert", adapter=Adapter(8, 0.0, ("query", "value")))
    masked = replace(job, model=replace(job.model, task="masked-lm"))
    classified = replace(job, model=replace(job.model, task="seq-cls"))
    head = (768 + 1) * 2

    assert simulate(classified).trainable_parameters - simulate(masked).trainable_parameters == head


@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_layers_of_encoder_and_decoder_are_gathered_in_turn(model_type):
    zero = Parallelism(8, "deepspeed", Zero(3, reduce_bucket_size=1000, max_reuse_distance=0))
    whole = traced_job(model_type, precision=Precision("bfloat16"))

    assert simulate(replace(whole, parallelism=zero)).parameters < simulate(whole).parameters / 4


def test_zero_divides_model_states():
    whole = llama(precision=Precision("bfloat16"), parallelism=Parallelism(4, "deepspeed", Zero(1)))
    parameters = simulate(whole).total_parameters
    master_and_states = 12 * parameters

    assert simulate(whole).optimizer_states == pytest.approx(master_and_states / 4, rel=1e-3)
    for stage in (2, 3):
        sharded = replace(whole, parallelism=Parallelism(4, "deepspeed", Zero(stage, reduce_bucket_size=10_000)))
        assert simulate(sharded).optimizer_states == pytest.approx(master_and_states / 4, rel=1e-3)
    assert simulate(sharded).parameters == pytest.approx(2 * parameters / 4, rel=1e-3)


def test_zero_stages_need_less_in_turn():
    gathers_little = {"reduce_bucket_size": 1000, "max_reuse_distance": 0, "prefetch_bucket_size": 0}
    peaks = [
        simulate(
            llama(
                precision=Precision("float32", "bfloat16"),
                batch=Batch(1, 32),
                parallelism=Parallelism(8, "deepspeed", Zero(stage, **gathers_little)),
            ),
            reserved=False,
        ).allocated
        for stage in range(4)
    ]

    assert peaks == sorted(peaks, reverse=True)


def test_offload_moves_states_to_the_host():
    on_device = llama(precision=Precision("bfloat16"), parallelism=Parallelism(1, "deepspeed", Zero(2)))
    offloaded = replace(on_device, parallelism=Parallelism(1, "deepspeed", Zero(2, offload_optimizer="cpu")))

    # the step counters of two groups and the largest gradient on its way come on top
    largest = LLAMA["vocab_size"] * LLAMA["hidden_size"]
    assert simulate(offloaded).host == 18 * simulate(offloaded).total_parameters + 8 + 2 * largest
    assert simulate(offloaded).optimizer_states == 0
    assert simulate(offloaded).allocated < simulate(on_device).allocated


def test_ddp_keeps_a_second_copy_of_the_gradients():
    alone = simulate(llama())
    spread = simulate(llama(parallelism=Parallelism(2, "ddp")))

    assert spread.allocated - alone.allocated == pytest.approx(alone.gradients, rel=1e-2)


def test_modules_to_save_train_a_copy_beside_the_original():
    plain = simulate(llama(adapter=Adapter(8, 0.0, ("q_proj",))))
    saved = simulate(llama(adapter=Adapter(8, 0.0, ("q_proj",), modules_to_save=("lm_head",))))

    assert saved.trainable_parameters - plain.trainable_parameters == 2000 * 256


@pytest.mark.parametrize("loss", ["fused", "chunked"])
def test_fused_losses_hold_no_logits(loss):
    job = llama(config={"vocab_size": 100_000}, precision=Precision("bfloat16"), batch=Batch(8, 512))
    fused = replace(job, objective=replace(job.objective, loss=loss))

    assert simulate(fused).allocated < simulate(job).allocated - 8 * 512 * 100_000 * 4


def test_paged_states_are_not_in_the_allocator():
    paged, plain = (simulate(llama(optimizer=Optimizer(name))) for name in ("paged_adamw_32bit", "adamw_bnb_32bit"))

    assert plain.optimizer_states == 8 * plain.total_parameters
    assert paged.optimizer_states < plain.optimizer_states / 4


@quick
@given(jobs())
def test_kinds_of_activations_sum_to_the_component(job: Job):
    estimate = simulate(job, reserved=False)
    parts = {part.name: part.bytes for part in estimate.components}

    assert sum(kind.bytes for kind in estimate.activations) == parts.get("activations", 0)
    assert all(kind.bytes > 0 for kind in estimate.activations)


@pytest.mark.parametrize(("version", "trained"), [((4, 57, 6), False), ((5, 23, 0), True)])
def test_reentrant_checkpoints_of_frozen_embeddings_hide_their_layers(version, trained):
    """Before transformers 5 nothing makes the embeddings' output need a gradient."""
    job = llama(
        checkpointing=Checkpointing("reentrant"),
        libraries=Libraries(transformers=version),
        frozen_parameters=("embed_tokens",),
    )
    estimate = simulate(job, reserved=False)

    head, norm = 2000 * 256, 256
    assert (estimate.trainable_parameters > head + norm) is trained
    assert any(note.startswith("54 parameter tensors") for note in estimate.notes) is not trained
    if not trained:
        assert estimate.trainable_parameters == head + norm
        assert estimate.optimizer_states < estimate.parameters


UNCLIPPED = Objective(max_grad_norm=0.0)
"""Without the norms of gradients, whose kernels are not observed."""


def test_a_dispatch_mode_keeps_the_gradients_of_tied_weights_from_being_added_in_place():
    """The sum is a third tensor like the embedding, at the end of backward, where it is the peak of a small batch."""
    job = llama({"tie_word_embeddings": True, "vocab_size": 32000}, precision=Precision("float32", "bfloat16"))
    job = replace(job, batch=Batch(1, 16), optimizer=Optimizer("adamw_torch_fused"), objective=UNCLIPPED)
    untied = replace(job, model=replace(job.model, config={**job.model.config, "tie_word_embeddings": False}))

    unseen, seen = (simulate(job, reserved=False, observed=observed).allocated for observed in (False, True))
    assert seen - unseen == pytest.approx(4 * 32000 * 256, rel=0.02)
    assert simulate(untied, reserved=False, observed=True) == simulate(untied, reserved=False)


def test_without_autocast_they_are_never_added_in_place():
    job = llama({"tie_word_embeddings": True}, precision=Precision("bfloat16"), objective=UNCLIPPED)

    assert simulate(job, reserved=False, observed=True) == simulate(job, reserved=False)

"""Kinds of rank: stages of a pipeline, what is in flight, models that do not divide; and real peaks of Megatron-LM.

The measured peaks are `mem-max-allocated-bytes` of the last rank in NVIDIA/Megatron-LM@d98e8a6,
tests/functional_tests/test_cases/{bert,gpt,moe,t5}/<name>/golden_values_dev_dgx_{a100,h100}.json; the models are those
of the configurations beside them.
"""

from __future__ import annotations

import sys

import pytest
from msgspec.structs import replace

from tests.memory.runs import llama
from vramlint.catalog.gpus import find_gpu
from vramlint.job import (
    Attention,
    Batch,
    ConfigValue,
    Gpu,
    Job,
    Megatron,
    Model,
    Optimizer,
    Parallelism,
    Precision,
    Zero,
)
from vramlint.memory import played, simulate, zero_coordinator
from vramlint.memory.pipeline_layout import in_flight
from vramlint.memory.ranks import Kind, kinds
from vramlint.memory.refusal import NotFollowedError

_SIZES: dict[str, ConfigValue] = {
    "vocab_size": 50304,
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 2048,
    "max_position_embeddings": 1024,
    "attention_mask": True,
    "implementation": "transformer_engine",
}
_DETERMINISTIC = 32 << 20
"""Bytes of a cuBLAS workspace by CUBLAS_WORKSPACE_CONFIG=:4096:8."""


def _job(engine: Megatron, *, sizes: dict[str, ConfigValue] | None = None, gpu: str = "", eager: bool = False) -> Job:
    card = find_gpu(gpu) if gpu else None
    assert card is None or isinstance(card, Gpu)
    return Job(
        model=Model("gpt", "gpt2", config={"megatron": {**_SIZES, **(sizes or {})}}),
        precision=Precision("float32", "bfloat16"),
        optimizer=Optimizer("adamw_apex_fused"),
        batch=Batch(micro_batch_size=4, sequence_length=1024, gradient_accumulation_steps=8),
        attention=Attention("eager" if eager else "flash_attention_2"),
        parallelism=Parallelism(8, "megatron", megatron=engine),
        gpu=replace(card, cublas_workspace_bytes=_DETERMINISTIC) if card else None,
    )


_UNFUSED = Megatron(fused_gradients=False)
_LOCAL: dict[str, ConfigValue] = {"implementation": "local"}
_SWIGLU: dict[str, ConfigValue] = {"gated": True, "bias": False, "intermediate_size": 1344}
_EXPERTS: dict[str, ConfigValue] = {
    "vocab_size": 50432,
    "bias": False,
    "experts": 8,
    "expert_intermediate_size": 2048,
    "experts_per_token": 1,
    "dispatcher": "allgather",
}
_GROUPED: dict[str, ConfigValue] = {**_EXPERTS, "grouped_experts": True}
_SHARED = replace(_UNFUSED, tensor=2, sequence=True, expert=2)
_DIVIDED = replace(_SHARED, distributed_optimizer=True)
MEASURED: tuple[tuple[str, Megatron, dict[str, ConfigValue], str, bool, int], ...] = (
    ("tp1_pp1 full recompute", replace(_UNFUSED, recompute="full"), {}, "a100-80gb", True, 2_534_070_272),
    ("tp1_pp1 full recompute", replace(_UNFUSED, recompute="full"), {}, "h100", False, 2_561_334_272),
    ("tp1_pp4 virtual", replace(_UNFUSED, pipeline=4, chunks=3), {}, "a100-80gb", True, 4_120_607_232),
    ("tp1_pp4 virtual", replace(_UNFUSED, pipeline=4, chunks=3), {}, "h100", False, 2_639_761_408),
    ("tp2_pp2", replace(_UNFUSED, tensor=2, pipeline=2), {"vocab_size": 50432}, "h100", False, 1_428_171_264),
    ("experts tp2 ep2", _DIVIDED, _EXPERTS, "h100", False, 2_111_122_432),
    ("grouped experts tp2 ep2", _SHARED, _GROUPED, "h100", False, 2_728_780_800),
    ("two experts a token", _SHARED, {**_GROUPED, "experts_per_token": 2}, "a100-80gb", False, 2_887_776_256),
    ("two instances", replace(_DIVIDED, instances=2), _EXPERTS, "h100", False, 2_520_246_272),
    ("local tp1_pp2", replace(_UNFUSED, pipeline=2), _LOCAL, "a100-80gb", True, 3_632_653_312),
    ("local tp1_pp4", replace(_UNFUSED, pipeline=4), _LOCAL, "h100", True, 2_746_575_872),
)
_HALF = replace(_UNFUSED, wide_gradients=False)
_TORCH: dict[str, ConfigValue] = {**_LOCAL, "vocab_size": 50432, "softmax": "float32"}
HALF: tuple[tuple[str, Megatron, dict[str, ConfigValue], str, int], ...] = (
    ("local tp1_pp2", replace(_HALF, pipeline=2), _LOCAL, "a100-80gb", 3_547_033_088),
    ("local tp4_pp1", replace(_HALF, tensor=4), {**_LOCAL, "vocab_size": 50688}, "h100", 1_598_662_656),
    ("tp2_pp2 uninstall_te", replace(_HALF, tensor=2, pipeline=2), _TORCH, "a100-80gb", 2_086_473_728),
)
"""In float16, whose gradients are not added up in float32; the last one without fused softmax."""
_BERT: dict[str, ConfigValue] = {
    **_SIZES,
    "vocab_size": 30592,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 512,
    "token_types": 2,
}
_T5: dict[str, ConfigValue] = {
    **_SIZES,
    "vocab_size": 29184,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
_T5_11B: dict[str, ConfigValue] = {
    **_T5,
    "hidden_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "intermediate_size": 10240,
}
_FUSED = Megatron()
ENCODERS: tuple[tuple[str, str, Megatron, dict[str, ConfigValue], str, bool, int], ...] = (
    ("bert tp1_pp2", "masked-lm", replace(_UNFUSED, pipeline=2), _BERT, "a100-80gb", True, 5_631_605_760),
    ("bert pp4_vp2", "masked-lm", replace(_UNFUSED, pipeline=4, chunks=3), _BERT, "h100", True, 5_293_919_744),
    ("bert tp2_pp2", "masked-lm", replace(_UNFUSED, tensor=2, pipeline=2), _BERT, "a100-80gb", True, 3_055_894_528),
    ("bert tp4_pp1", "masked-lm", replace(_UNFUSED, tensor=4), _BERT, "h100", True, 3_220_183_552),
    ("t5 local tp1", "seq2seq-lm", _FUSED, {**_T5, **_LOCAL}, "h100", True, 6_186_639_360),
    ("t5 te tp4", "seq2seq-lm", replace(_FUSED, tensor=4), _T5, "a100-80gb", True, 1_822_061_568),
    ("t5 11b tp4", "seq2seq-lm", replace(_FUSED, tensor=4), _T5_11B, "h100", False, 44_989_894_656),
)


@pytest.mark.parametrize(
    ("engine", "sizes", "gpu", "eager", "measured"), [row[1:] for row in MEASURED], ids=[row[0] for row in MEASURED]
)
def test_the_last_rank_peaks_as_measured(
    engine: Megatron, sizes: dict[str, ConfigValue], gpu: str, eager: bool, measured: int
) -> None:
    estimate = simulate(_job(engine, sizes=sizes, gpu=gpu, eager=eager), reserved=False)
    last = estimate.ranks[-1].allocated if estimate.ranks else estimate.allocated
    assert estimate.method == "simulated"
    assert abs(last - measured) / measured < 0.03


@pytest.mark.parametrize(
    ("engine", "sizes", "gpu", "measured"), [row[1:] for row in HALF], ids=[row[0] for row in HALF]
)
def test_the_last_rank_peaks_as_measured_in_float16(
    engine: Megatron, sizes: dict[str, ConfigValue], gpu: str, measured: int
) -> None:
    job = replace(_job(engine, sizes=sizes, gpu=gpu, eager=True), precision=Precision("float32", "float16"))
    estimate = simulate(job, reserved=False)
    last = estimate.ranks[-1].allocated if estimate.ranks else estimate.allocated
    assert abs(last - measured) / measured < 0.02


@pytest.mark.parametrize(
    ("task", "engine", "sizes", "gpu", "eager", "measured"),
    [row[1:] for row in ENCODERS],
    ids=[row[0] for row in ENCODERS],
)
def test_the_last_rank_of_an_encoder_peaks_as_measured(
    task: str, engine: Megatron, sizes: dict[str, ConfigValue], gpu: str, eager: bool, measured: int
) -> None:
    job = _job(engine, sizes=sizes, gpu=gpu, eager=eager)
    batch = Batch(4, 512, 8, target_length=128)
    estimate = simulate(replace(job, batch=batch, model=replace(job.model, task=task)), reserved=False)
    last = estimate.ranks[-1].allocated if estimate.ranks else estimate.allocated
    assert estimate.method == "simulated"
    assert abs(last - measured) / measured < 0.03


def test_stages_of_an_encoder_and_decoder_are_refused() -> None:
    job = _job(replace(_UNFUSED, pipeline=2), sizes=_T5)
    estimate = simulate(replace(job, model=replace(job.model, task="seq2seq-lm")))
    assert estimate.method == "bounded"
    assert "several stages" in " ".join(estimate.notes)


def test_gradients_in_16_bits_are_widened_by_the_optimizer_alone() -> None:
    wide, narrow = (simulate(_job(replace(_UNFUSED, wide_gradients=on)), reserved=False) for on in (True, False))
    elements = wide.optimizer_states // 12  # two states and a master weight, of 4 bytes each
    assert wide.allocated - narrow.allocated == pytest.approx(2 * elements, rel=0.01)


def test_the_worst_of_a_pipelines_stages_is_reported() -> None:
    estimate = simulate(_job(replace(_UNFUSED, pipeline=4)), reserved=False)
    assert [peak.name for peak in estimate.ranks] == [f"stage {stage} of 4" for stage in range(4)]
    assert estimate.allocated == max(peak.allocated for peak in estimate.ranks)
    assert [peak.ranks for peak in estimate.ranks] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("engine", "stage", "steps", "forwards"),
    [
        (Megatron(pipeline=4), 0, 8, 4),
        (Megatron(pipeline=4), 3, 8, 1),
        (Megatron(pipeline=4), 0, 2, 2),
        (Megatron(pipeline=4, chunks=2), 0, 8, 11),
        (Megatron(pipeline=4, chunks=2), 3, 8, 5),
        (Megatron(), 0, 8, 1),
    ],
)
def test_a_stage_runs_so_many_forwards_before_its_first_backward(
    engine: Megatron, stage: int, steps: int, forwards: int
) -> None:
    assert sum(in_flight(engine, stage, Batch(gradient_accumulation_steps=steps))) == forwards


def test_what_is_in_flight_adds_up() -> None:
    first = next(kinds(_job(replace(_UNFUSED, pipeline=4))))
    kept = simulate(first.job, reserved=False)
    assert any(amount.name.startswith("micro batches in flight") for amount in kept.tensors)


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Megatron(tensor=3), "vocab_size|num_attention_heads"),
        (Megatron(pipeline=5), "num_hidden_layers 12 over 5"),
        (Megatron(recompute="full", recompute_layers=5), "recomputing 5 layers"),
        (Megatron(expert=3), "experts 8 over 3"),
    ],
)
def test_a_model_that_does_not_divide_is_refused(engine: Megatron, reason: str) -> None:
    with pytest.raises(NotFollowedError, match=reason):
        list(kinds(_job(engine, sizes={"experts": 8, "expert_intermediate_size": 2048})))
    assert simulate(_job(engine)).method == "bounded" or engine.expert > 1


def test_sequence_parallelism_leaves_less_between_the_matrices() -> None:
    sizes: dict[str, ConfigValue] = {"vocab_size": 50688}
    plain, shared = (
        simulate(_job(replace(_UNFUSED, tensor=4, sequence=on), sizes=sizes), reserved=False) for on in (False, True)
    )
    assert shared.saved_activations < plain.saved_activations


def test_a_distributed_optimizer_divides_states_and_master_weights() -> None:
    whole, divided = (
        simulate(_job(replace(_UNFUSED, distributed_optimizer=on)), reserved=False) for on in (False, True)
    )
    assert abs(whole.optimizer_states / 8 - divided.optimizer_states) < 12 * 200
    assert whole.parameters == divided.parameters


def test_recomputing_a_block_of_layers_lies_between_none_and_all() -> None:
    peaks = [
        simulate(
            _job(replace(_UNFUSED, recompute=kind, recompute_method="block", recompute_layers=layers)), reserved=False
        )
        for kind, layers in (("none", 1), ("full", 4), ("full", 12))
    ]
    saved = [peak.saved_activations for peak in peaks]
    assert saved[0] > saved[1] > saved[2]


def test_each_rank_has_its_part_of_the_experts() -> None:
    one, two = (
        simulate(_job(replace(_UNFUSED, expert=ranks), sizes=dict(_EXPERTS)), reserved=False) for ranks in (1, 2)
    )
    experts = 12 * 8 * 2 * 2048 * 512
    assert one.parameters - two.parameters == 2 * experts // 2


_BY_HEAD = replace(_UNFUSED, pipeline=4, chunks=2, counts_embedding=True, counts_loss=True)


@pytest.mark.parametrize(("gpu", "measured"), [("a100-80gb", 2_814_534_144), ("h100", 2_841_169_408)])
def test_stages_of_several_sizes_peak_as_measured(gpu: str, measured: int) -> None:
    sizes: dict[str, ConfigValue] = {"num_hidden_layers": 6, "tie_word_embeddings": False}
    estimate = simulate(_job(_BY_HEAD, sizes=sizes, gpu=gpu, eager=True), reserved=False)
    assert abs(estimate.ranks[-1].allocated - measured) / measured < 0.02


_LATENT: dict[str, ConfigValue] = {
    "vocab_size": 50432,
    "num_hidden_layers": 4,
    "tie_word_embeddings": False,
    "latent": True,
    "q_lora_rank": 192,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}


def test_latent_attention_peaks_as_measured() -> None:
    """GB200, one machine: test_cases/gpt/gpt3_mcore_te_tp2_pp2_mla_1node/golden_values_dev_dgx_gb200.json."""
    engine = replace(_UNFUSED, tensor=2, pipeline=2, sequence=True)
    job = _job(engine, sizes=_LATENT, gpu="gb200", eager=True)
    estimate = simulate(replace(job, parallelism=replace(job.parallelism, world_size=4)), reserved=False)
    assert abs(estimate.ranks[-1].allocated - 1_248_258_560) / 1_248_258_560 < 0.02


def test_latent_attention_without_a_query_rank_takes_the_hidden_states() -> None:
    one, other = (
        simulate(_job(_UNFUSED, sizes={**_LATENT, "vocab_size": 50304, "q_lora_rank": rank})) for rank in (192, 0)
    )
    assert other.method == "simulated"
    wide = 8 * 24
    assert one.parameters - other.parameters == 2 * 4 * (192 * 512 + 192 * wide - 512 * wide)


def test_latent_attention_of_megatrons_own_modules_is_refused() -> None:
    estimate = simulate(_job(_UNFUSED, sizes={**_LATENT, **_LOCAL, "vocab_size": 50304}))
    assert estimate.method == "bounded"


def test_a_deferred_gradient_of_the_head_peaks_as_measured() -> None:
    engine = Megatron(tensor=2, pipeline=2, deferred=2)
    job = _job(engine, sizes={"vocab_size": 50432}, gpu="a100-80gb", eager=True)
    estimate = simulate(job, reserved=False)
    assert abs(estimate.ranks[-1].allocated - 2_340_560_384) / 2_340_560_384 < 0.02
    plain = simulate(replace(job, parallelism=replace(job.parallelism, megatron=replace(engine, deferred=None))))
    assert estimate.ranks[0].allocated == plain.ranks[0].allocated
    assert estimate.ranks[-1].allocated - plain.ranks[-1].allocated == 2 * 2 * 4096 * (50432 // 2 + 512)


def test_every_kind_says_what_it_has() -> None:
    estimate = simulate(_job(replace(_UNFUSED, pipeline=4)), reserved=False)
    assert [peak.holds for peak in estimate.ranks] == [
        "3 layers, 4 forwards in flight, embedding",
        "3 layers, 3 forwards in flight",
        "3 layers, 2 forwards in flight",
        "3 layers, logits and loss",
    ]


def test_layers_with_and_without_experts_alternate() -> None:
    found = list(kinds(_job(replace(_UNFUSED, pipeline=2), sizes={**_EXPERTS, "sparse_layers": (0, 1) * 6})))
    assert [kind.job.model.config["chunks"] for kind in found] == [((False, True) * 3,)] * 2
    every, some = (
        simulate(_job(_UNFUSED, sizes={**_EXPERTS, "sparse_layers": layers})) for layers in ((1,) * 12, (0, 1) * 6)
    )
    experts, dense = 8 * 2 * 2048 * 512 + 8 * 512, 2 * 2048 * 512
    assert every.parameters - some.parameters == 2 * 6 * (experts - dense)


def test_stages_that_hold_the_same_are_simulated_once() -> None:
    job = _job(replace(_UNFUSED, pipeline=6))
    job = replace(job, batch=replace(job.batch, gradient_accumulation_steps=2))  # two in flight in all but the last
    found = list(kinds(job))
    assert [kind.name for kind in found] == ["stage 0 of 6", "stages 1 to 4 of 6", "stage 5 of 6"]
    assert [kind.ranks for kind in kinds(replace(job, parallelism=replace(job.parallelism, world_size=6)))] == [1, 4, 1]


@pytest.mark.parametrize(
    "parallelism",
    [
        Parallelism(8, "ddp"),
        Parallelism(8, "deepspeed", zero=Zero(2)),
        Parallelism(8, "deepspeed", zero=Zero(3)),
        Parallelism(8, "fsdp"),
    ],
    ids=lambda item: f"{item.strategy} {item.zero.stage if item.zero else 0}",
)
def test_thousands_of_ranks_take_no_more_work_than_eight(parallelism: Parallelism) -> None:
    def calls(world: int) -> int:
        job = llama(precision=Precision("float32", "bfloat16"))
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        zero_coordinator._kept.clear()  # what a run before it worked out
        played.forget()
        sys.setprofile(count)
        try:
            simulate(replace(job, parallelism=replace(parallelism, world_size=world, nodes=world // 8)))
        finally:
            sys.setprofile(None)
        return counted

    calls(8)  # imports, caches
    assert calls(4096) < 1.1 * calls(8)


def test_experts_train_whatever_checkpoints_the_trainer_asks_for() -> None:
    job = _job(_DIVIDED, sizes=_EXPERTS)
    asked = replace(job, checkpointing=replace(job.checkpointing, mode="reentrant"))

    assert simulate(asked, reserved=False).optimizer_states == simulate(job, reserved=False).optimizer_states


def test_what_ranks_hold_of_models_of_several_parts_is_not_counted() -> None:
    """Layers are in the text model's own config, and no stage has a part of them."""
    nested = Job(Model("x", "qwen3_5", {"text_config": {"num_hidden_layers": 4}}))
    assert Kind("every rank", nested, 4).holds == ""

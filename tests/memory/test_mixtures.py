"""Mixtures of experts: kinds of layers, adapters on fused experts, the loss that balances, linear attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import LLAMA
from vramlint.estimate import Estimate
from vramlint.job import Adapter, Attention, Batch, Checkpointing, Job, Libraries, Model, Precision, Quantization
from vramlint.memory import simulate

BEFORE_FUSION = Libraries(transformers=(4, 57, 6))
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2}
WIDTHS = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 64}
HIDDEN = 256


def mixture(model_type: str, config: Mapping[str, Any] | None = None, **parts: Any) -> Job:
    """A job for a small mixture; `config` extends what the mixtures have in common."""
    model = Model("x", model_type, {**LLAMA, **EXPERTS, **WIDTHS, **(config or {})})
    return replace(Job(model, batch=Batch(2, 64), precision=Precision("bfloat16")), **parts)


@pytest.mark.parametrize(
    ("model_type", "switches"),
    [
        ("qwen3_moe", {"decoder_sparse_step": 2}),
        ("qwen3_moe", {"mlp_only_layers": (0, 5)}),
        ("glm4_moe", {"first_k_dense_replace": 3}),
        ("gpt_oss", {}),
        ("qwen3_next", {"linear_num_value_heads": 4, "linear_num_key_heads": 2}),
    ],
)
@pytest.mark.parametrize("mode", ["none", "nonreentrant"])
def test_layers_in_turns_equal_layers_traced_one_by_one(model_type, switches, mode, monkeypatch):
    config = {"num_hidden_layers": 18, "head_dim": 32, **switches}
    job = mixture(model_type, config=config, checkpointing=Checkpointing(mode))
    repeated = simulate(job, reserved=False)

    monkeypatch.setattr("vramlint.memory.repetition.SINGLE_LAYERS", 18)
    single = simulate(job, reserved=False)

    assert (repeated.allocated, repeated.saved_activations) == (single.allocated, single.saved_activations)


def test_dense_layers_among_sparse_ones_have_other_weights():
    layers = 6
    sparse = simulate(mixture("qwen3_moe", config={"num_hidden_layers": layers})).total_parameters
    mixed = simulate(mixture("qwen3_moe", config={"num_hidden_layers": layers, "decoder_sparse_step": 2}))

    experts = 4 * 3 * 32 * HIDDEN + 4 * HIDDEN
    dense = 3 * LLAMA["intermediate_size"] * HIDDEN
    assert mixed.total_parameters == sparse - layers // 2 * (experts - dense)


def test_adapters_on_modules_that_were_fused_add_up_their_ranks():
    rank, experts, width = 8, 4, 32
    targets = Adapter(rank, 0.0, ("gate_proj", "up_proj", "down_proj"))
    config = {"num_hidden_layers": 1}

    fused = simulate(mixture("qwen3_moe", adapter=targets, config=config))
    modules = simulate(mixture("qwen3_moe", adapter=targets, config=config, libraries=BEFORE_FUSION))

    assert modules.trainable_parameters == experts * 3 * rank * (HIDDEN + width)
    joint = 2 * rank * experts * (HIDDEN + 2 * width)
    assert fused.trainable_parameters == joint + rank * experts * (width + HIDDEN)


def test_models_that_peft_does_not_convert_keep_fused_experts_frozen():
    adapter = Adapter(8, 0.0, ("q_proj", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"))
    only = replace(adapter, target_modules=("q_proj",))
    config = {"head_dim": 32}

    assert (
        simulate(mixture("gpt_oss", adapter=adapter, config=config)).trainable_parameters
        == simulate(mixture("gpt_oss", adapter=only, config=config)).trainable_parameters
    )


@pytest.mark.parametrize("libraries", [Libraries(), BEFORE_FUSION], ids=["together", "one by one"])
def test_experts_of_gpt_oss_get_adapters_by_their_parameters_names(libraries):
    rank, experts, width = 8, 4, LLAMA["intermediate_size"]
    plain = mixture("gpt_oss", adapter=Adapter(rank, 0.0, ("q_proj",)), config={"head_dim": 32}, libraries=libraries)
    names = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
    reached = replace(plain, adapter=replace(plain.adapter, target_parameters=names))

    added = simulate(reached).trainable_parameters - simulate(plain).trainable_parameters

    assert added == LLAMA["num_hidden_layers"] * rank * experts * (HIDDEN + 2 * width + width + HIDDEN)
    assert simulate(reached).saved_activations > simulate(plain).saved_activations + experts * width * HIDDEN


@pytest.mark.parametrize("libraries", [Libraries(), BEFORE_FUSION], ids=["fused", "modules"])
def test_router_logits_are_kept_for_a_loss(libraries):
    plain = simulate(mixture("mixtral", libraries=libraries))
    balanced = simulate(mixture("mixtral", config={"output_router_logits": True}, libraries=libraries))

    assert balanced.saved_activations > plain.saved_activations
    assert balanced.total_parameters == plain.total_parameters


@pytest.mark.parametrize(
    ("model_type", "width"),
    [
        ("mixtral", LLAMA["intermediate_size"]),
        ("deepseek_v3", WIDTHS["moe_intermediate_size"]),
        ("gpt_oss", LLAMA["intermediate_size"]),
    ],
)
def test_batched_experts_copy_the_weights_of_every_pair(model_type, width):
    config = {"n_group": 1, "first_k_dense_replace": 0, "head_dim": 32, "num_hidden_layers": 2}
    grouped, eager, batched = (
        simulate(mixture(model_type, config={**config, "experts_implementation": form}))
        for form in ("grouped_mm", "eager", "batched_mm")
    )

    assert grouped.parameters == eager.parameters == batched.parameters
    pairs, layers = 2 * 64 * 2, 2
    copies = layers * pairs * 3 * width * HIDDEN * 2
    assert batched.saved_activations - grouped.saved_activations == pytest.approx(copies, rel=0.05)


def test_tokens_were_repeated_and_weights_kept_wide_at_first():
    first, since = (
        simulate(mixture("qwen3_moe", config={"num_hidden_layers": 2}, libraries=Libraries(transformers=version)))
        for version in ((5, 0, 0), (5, 23, 0))
    )

    weights_of_pairs = 2 * 2 * 64 * 2 * (4 - 2)
    assert first.saved_activations - since.saved_activations >= weights_of_pairs
    assert first.allocated > since.allocated


def test_kernels_of_experts_that_are_not_followed_are_named():
    unknown = simulate(mixture("mixtral", config={"experts_implementation": "sonicmoe"}))

    assert "the experts implementation sonicmoe" in unknown.notes[0]


def test_a_loss_that_a_model_never_adds_costs_nothing():
    asked = mixture("glm4_moe", config={"output_router_logits": True}, libraries=BEFORE_FUSION)

    assert simulate(asked).allocated == simulate(mixture("glm4_moe", libraries=BEFORE_FUSION)).allocated


def test_latent_attention_has_values_of_their_own_size():
    latent = {"kv_lora_rank": 64, "q_lora_rank": None, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32}
    small, large = (
        simulate(mixture("deepseek_v3", config={**latent, "v_head_dim": size, "num_hidden_layers": 2, "n_group": 1}))
        for size in (32, 64)
    )

    heads = LLAMA["num_attention_heads"]
    assert large.total_parameters - small.total_parameters == 2 * heads * 32 * (64 + HIDDEN)
    assert large.saved_activations > small.saved_activations


def test_sinks_run_in_eager_attention_whatever_is_asked_for():
    job = mixture("gpt_oss", config={"head_dim": 32})

    assert simulate(job).allocated == simulate(replace(job, attention=Attention("eager"))).allocated
    flash = simulate(replace(job, attention=Attention("flash_attention_2")))
    assert flash.method == "bounded"
    assert "sinks" in flash.notes[0]


@pytest.mark.parametrize("length", [512, 448])
@pytest.mark.parametrize("mode", ["none", "nonreentrant"])
@pytest.mark.parametrize("version", [(5, 16, 0), (5, 23, 0)])
def test_chunks_taken_together_add_up_to_chunks_taken_one_by_one(length, mode, version, monkeypatch):
    config = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "num_hidden_layers": 4, "head_dim": 32}
    libraries = Libraries(transformers=version)
    batch, checkpointing = Batch(1, length), Checkpointing(mode)
    job = mixture("qwen3_5", config=config, batch=batch, checkpointing=checkpointing, libraries=libraries)
    single = simulate(job, reserved=False)

    monkeypatch.setattr("vramlint.memory.ops.chunks.MOST_STEPS", 4)
    monkeypatch.setattr("vramlint.memory.remembered._passages", {})
    together = simulate(job, reserved=False)

    assert together.saved_activations == pytest.approx(single.saved_activations, rel=0.01)
    assert together.allocated == pytest.approx(single.allocated, rel=0.02)


@pytest.mark.parametrize("version", [(4, 57, 6), (5, 16, 0)])
def test_a_rule_that_goes_row_by_row_keeps_the_rows_above_each(version):
    config = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "num_hidden_layers": 3, "head_dim": 32}
    job = mixture("qwen3_next", config=config, batch=Batch(1, 512))

    solved = simulate(job).saved_activations
    looped = simulate(replace(job, libraries=Libraries(transformers=version))).saved_activations

    chunks = 3 * 4 * 512 // 64
    above = chunks * sum(at * at + at for at in range(1, 64)) * 4
    assert above * 0.8 < looped - solved < above * 1.2


def test_a_checkpoint_with_a_tower_trains_its_text_model():
    config = {**LLAMA, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "head_dim": 32}
    alone = Job(Model("x", "qwen3_5_text", config), batch=Batch(1, 64))
    nested = replace(alone, model=replace(alone.model, model_type="qwen3_5", config={"text_config": config}))

    assert simulate(nested) == simulate(alone)


def quantized(mode: str, **quantization: Any) -> Job:
    return mixture(
        "qwen3_moe",
        adapter=Adapter(8, 0.0, ("q_proj",)),
        quantization=Quantization("nf4", compute_dtype="bfloat16", **quantization),
        checkpointing=Checkpointing(mode),
    )


@pytest.mark.parametrize("mode", ["none", "nonreentrant"])
def test_experts_that_are_quantized_as_one_tensor_are_saved_dequantized(mode):
    plain, packed = (simulate(quantized(mode, experts=experts), reserved=False) for experts in (False, True))
    elements = EXPERTS["num_experts"] * 3 * WIDTHS["moe_intermediate_size"] * HIDDEN
    layers = LLAMA["num_hidden_layers"]
    constants = 4 * elements // 64 + 2 * 512  # of each of both tensors the code besides

    def held(estimate: Estimate) -> int:
        names = {"weights", "quantization constants"}
        return sum(part.bytes for part in estimate.components if part.name in names)

    assert held(packed) + layers * (2 * elements - elements // 2 - constants) == held(plain)
    assert packed.saved_activations == plain.saved_activations + (layers * 2 * elements if mode == "none" else 0)


def test_adapters_on_quantized_experts_are_not_followed():
    job = quantized("none", experts=True)
    adapter = replace(job.adapter, target_parameters=("mlp.experts.gate_up_proj",))

    assert simulate(replace(job, adapter=adapter), reserved=False).method == "bounded"

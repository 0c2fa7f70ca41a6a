"""What is known of an architecture before anything runs: parameters, kinds of layers, heads, stand-ins."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.memory.runs import LLAMA, llama
from vramlint.catalog.models import all_models
from vramlint.job import Adapter, Attention, Batch, Job, Libraries, Model, Precision
from vramlint.memory import simulate
from vramlint.memory.architectures import DECODERS, FAMILIES, find_family, find_stand_in
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING, attention_types, every, tabled
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.weights import Builder

TOWERS_LEFT_OUT = frozenset({"qwen3_5", "qwen3_5_moe"})
"""Models whose checkpoints have a vision tower, which AutoModelForCausalLM does not load."""
DECODER_ROWS = [row for row in all_models() if row.model_type in FAMILIES["causal-lm"] and row.parameter_count]


def built(config: dict[str, object], model_type: str, task: str = "causal-lm") -> list[str]:
    """Names of the weights of a model."""
    job = Job(Model("x", model_type, config, task=task))  # type: ignore[arg-type]  # plain lists stand for tuples
    builder = Builder(job, ())
    family = find_family(model_type, task) or find_stand_in(model_type, task, config)
    assert family is not None
    family(builder, {"model_type": model_type, **config})
    return [parameter.name for parameter in builder.inventory.parameters]


@pytest.mark.parametrize("model_type", sorted({row.model_type for row in DECODER_ROWS} - TOWERS_LEFT_OUT))
def test_decoders_have_the_catalog_s_parameters(model_type):
    for row in DECODER_ROWS:
        if row.model_type != model_type:
            continue
        estimate = simulate(Job(Model(row.id, model_type, row.config), batch=Batch(1, 16)), reserved=False)
        if estimate.method == "simulated":
            assert estimate.total_parameters == row.parameter_count, row.id


@pytest.mark.parametrize("model_type", ["cohere2", "exaone4", "gemma3_text", "olmo3", "qwen2", "smollm3"])
@pytest.mark.parametrize("window", [32, 512], ids=["shows", "does not show"])
def test_alternating_layers_equal_layers_traced_one_by_one(model_type, window, monkeypatch):
    switches = {"use_sliding_window": True, "max_window_layers": 8}
    config = {**LLAMA, **switches, "num_hidden_layers": 26, "sliding_window": window, "head_dim": 32}
    job = Job(Model("x", model_type, config), batch=Batch(2, 64), precision=Precision("bfloat16"))
    repeated = simulate(job, reserved=False)

    monkeypatch.setattr("vramlint.memory.repetition.SINGLE_LAYERS", 26)
    single = simulate(job, reserved=False)

    assert (repeated.allocated, repeated.saved_activations) == (single.allocated, single.saved_activations)


def test_windows_show_only_where_nothing_else_makes_a_mask():
    windowed = {**LLAMA, "sliding_window": 64, "layer_types": ("sliding_attention", "full_attention") * 3}
    job = Job(Model("x", "ministral", windowed), batch=Batch(2, 128), precision=Precision("bfloat16"))
    padded = replace(job, batch=replace(job.batch, padding=True))

    assert simulate(padded).saved_activations > simulate(job).saved_activations
    for variant in (padded, replace(job, attention=Attention("eager"))):
        plain = replace(variant, model=replace(variant.model, config={**windowed, "sliding_window": 4096}))
        assert simulate(variant).allocated == simulate(plain).allocated


def test_layer_types_of_a_config_stand_above_the_pattern():
    assert attention_types({}, 4, every(3)) == (SLIDING, SLIDING, FULL, SLIDING)
    assert attention_types({"layer_types": [FULL, SLIDING]}, 2, every(3)) == (FULL, SLIDING)
    with pytest.raises(NotFollowedError, match="linear_attention"):
        attention_types({"layer_types": ["linear_attention"]}, 1, every(3))


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({"sliding_window": 64}, {FULL}),
        ({"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 4}, {FULL, SLIDING}),
        ({"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 0}, {SLIDING}),
    ],
)
def test_qwen2_slides_only_if_it_is_switched_on(config, kinds):
    family = find_family("qwen2", "causal-lm")
    assert family is not None
    network = family(Builder(Job(Model("x", "qwen2")), ()), {**LLAMA, **config, "model_type": "qwen2"})

    assert {kind.attention for kind in network.kinds} == kinds


@pytest.mark.parametrize("task", sorted(DECODERS))
def test_every_decoder_takes_the_heads_it_is_said_to_take(task):
    for model_type in DECODERS[task].split():
        assert find_family(model_type, task) is not None
    assert find_family("olmo2", "qa") is None


def test_a_reward_model_has_a_score_and_no_logits_over_words():
    job = llama(config={"vocab_size": 200_000})
    scored = replace(job, model=replace(job.model, task="seq-cls", config={**job.model.config, "id2label": {"0": "r"}}))

    assert simulate(job).total_parameters - simulate(scored).total_parameters == 256 * (200_000 - 1)
    assert simulate(scored, reserved=False).allocated < simulate(job, reserved=False).allocated
    assert "transformer.layers.0.self_attn.q_proj.weight" in built(LLAMA, "llama", "qa")
    assert "score.weight" in built(LLAMA, "llama", "token-cls")


def test_peft_trains_the_head_of_a_reward_model():
    adapter = Adapter(8, 0.0, ("q_proj",))
    job = llama(adapter=adapter)
    scored = replace(job, model=replace(job.model, task="seq-cls"))

    assert simulate(scored).trainable_parameters - simulate(job).trainable_parameters == 2 * 256


def test_an_unknown_llama_is_stood_in_for():
    dense = find_stand_in("made_up", "causal-lm", LLAMA)
    assert dense is not None
    assert find_stand_in("llama", "causal-lm", LLAMA) is None
    assert find_stand_in("made_up", "masked-lm", LLAMA) is None
    assert find_stand_in("made_up", "causal-lm", {**LLAMA, "kv_lora_rank": 64}) is None
    assert find_stand_in("made_up", "causal-lm", {**LLAMA, "architectures": ["MadeUpForMaskedLM"]}) is None
    assert find_stand_in("made_up", "causal-lm", {"hidden_size": 64}) is None
    assert find_stand_in("made_up", "causal-lm", {"text_config": LLAMA}) is dense


def test_a_stand_in_reads_what_the_config_says():
    plain = built(LLAMA, "made_up")
    assert plain == built(LLAMA, "llama")

    normed = built({**LLAMA, "use_qk_norm": True, "attention_bias": True}, "made_up")
    assert {name.removeprefix("model.layers.0.self_attn.") for name in set(normed) - set(plain) if ".0." in name} == {
        "q_norm.weight", "k_norm.weight", "q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"
    }  # fmt: skip

    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1}
    sparse = built({**LLAMA, **experts, "n_shared_experts": 1}, "made_up")
    assert "model.layers.0.mlp.gate_proj.weight" in sparse
    assert "model.layers.1.mlp.experts.gate_up_proj" in sparse
    assert "model.layers.1.mlp.shared_experts.up_proj.weight" in sparse


def test_remote_code_is_named_as_it_names_itself():
    qwen = built({**LLAMA, "kv_channels": 32}, "qwen")
    assert "transformer.h.0.attn.c_attn.bias" in qwen
    assert "transformer.h.0.mlp.w1.weight" in qwen
    assert "output.weight" in built(LLAMA, "internlm2")


def test_text_reaches_no_tower():
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "patch_size": 14, "image_size": 28}
    text = {**LLAMA, "head_dim": 32}
    config = {"text_config": text, "vision_config": vision}
    job = Job(Model("x", "gemma3", config), batch=Batch(1, 32))
    alone = Job(Model("x", "gemma3_text", {**text, "tie_word_embeddings": True}), batch=Batch(1, 32))

    whole, language = simulate(job), simulate(alone)
    assert whole.trainable_parameters == language.total_parameters < whole.total_parameters
    assert whole.gradients == language.gradients
    assert whole.saved_activations == language.saved_activations


@pytest.mark.parametrize(
    ("model_type", "until"),
    [("llama", (4, 41, 0)), ("mistral", (4, 42, 0)), ("qwen2", (4, 45, 0)), ("mixtral", (4, 48, 0))],
)
def test_every_layer_kept_rotary_tables_of_all_positions_once(model_type, until):
    config = {**LLAMA, "max_position_embeddings": 4096, "num_local_experts": 2, "num_experts_per_tok": 1}

    def buffers(transformers: tuple[int, ...]) -> int:
        job = Job(Model("x", model_type, config), libraries=Libraries(transformers=transformers))
        family = find_family(model_type, "causal-lm")
        assert family is not None
        builder = Builder(job, ())
        family(builder, {"model_type": model_type, **config})
        return sum(size * count for size, count in builder.inventory.buffers)

    major, minor, _ = until
    head = LLAMA["hidden_size"] // LLAMA["num_attention_heads"]
    tables = LLAMA["num_hidden_layers"] * 2 * 4096 * head * 4
    assert buffers((major, minor - 1, 0)) - buffers(until) == tables


def test_parameters_that_a_program_widens():
    plain = Builder(llama(precision=Precision("bfloat16", "bfloat16")), ())
    widened = Builder(llama(precision=Precision("bfloat16", "bfloat16", widened=("norm|embed_tokens|lm_head",))), ())

    for builder in (plain, widened):
        builder.norm("model.norm.weight", 8)
        builder.linear("lm_head", 8, 16, head=True)
        builder.linear("model.layers.0.mlp.up_proj", 8, 16)
    widths = [[parameter.dtype for parameter in builder.inventory.parameters] for builder in (plain, widened)]
    assert widths == [["bfloat16"] * 3, ["float32", "float32", "bfloat16"]]


def test_rotary_tables_come_in_one_order_however_the_kinds_are_hashed():
    for attentions in ((FULL, SLIDING), (SLIDING, FULL)):
        assert [*tabled(attentions, (5, 23, 0))] == [FULL, SLIDING]

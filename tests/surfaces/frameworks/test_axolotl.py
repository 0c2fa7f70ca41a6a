from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.api.test_launching import check
from tests.surfaces.frameworks.reading import sheet as sheet_of
from vramlint.catalog.gpus import find_gpu
from vramlint.facts import Fact, Origin, Sheet
from vramlint.job import Gpu
from vramlint.resolve.gpus import by_gpu
from vramlint.surfaces.frameworks.axolotl_sharding import shipped

_QLORA = """\
base_model: NousResearch/Meta-Llama-3-8B
load_in_4bit: true
adapter: qlora
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_target_linear: true
micro_batch_size: 2
gradient_accumulation_steps: 4
optimizer: adamw_bnb_8bit
bf16: true
gradient_checkpointing: true
flash_attention: true
val_set_size: 0.05
evals_per_epoch: 2
datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
"""


def _read(text: str, release: str = "") -> Sheet:
    return sheet_of("axolotl", text, release=release)


def values(sheet: Sheet, *names: str) -> tuple[object, ...]:
    """The values of facts, None for those without a single one."""
    return tuple(fact.value if (fact := sheet.get(name)) else None for name in names)


def lines(sheet: Sheet, *names: str) -> tuple[int | None, ...]:
    places = [fact.place if (fact := sheet.get(name)) else None for name in names]
    return tuple(place.span.line if place else None for place in places)


@pytest.mark.parametrize(
    ("release", "settings"),
    [
        ("0.15.0", "expandable_segments:True,roundup_power2_divisions:16"),
        ("0.16.0", "expandable_segments:True"),
        ("", "expandable_segments:True"),
    ],
)
def test_the_command_rounds_requests_until_the_release_that_needs_a_torch_without(release: str, settings: str):
    assert values(_read(_QLORA, release), "allocator_settings") == (settings,)


def test_a_qlora_run_says_what_its_keys_mean_and_axolotl_adds_what_they_leave_out() -> None:
    sheet = _read(_QLORA)

    assert values(sheet, "objective", "tuning", "quantization_bits", "quantization_type") == ("sft", "qlora", 4, "nf4")
    assert values(sheet, "double_quantization", "quantization_storage_dtype") == (True, "bfloat16")
    assert values(sheet, "load_dtype", "bf16", "fp16") == ("bfloat16", True, False)
    assert values(sheet, "lora_target_modules", "lora_dropout") == ("all-linear", 0.0)
    assert values(sheet, "attention_implementation", "checkpointing_reentrant") == ("flash_attention_2", True)
    assert values(sheet, "packing", "padding_free", "pad_to_maximum") == (True, True, True)
    assert values(sheet, "eval_micro_batch_size", "allocator_settings") == (2, "expandable_segments:True")
    said = ("quantization_bits", "lora_target_modules", "load_dtype", "attention_implementation", "packing")
    assert lines(sheet, *said) == (2, 8, 12, 14, 5)
    assert sheet.remarks == ()


def test_it_evaluates_where_there_is_a_set_and_a_time_for_it() -> None:
    assert any(name == "evaluation" for name, _ in _read(_QLORA).tables)
    assert not any(name == "evaluation" for name, _ in _read(_QLORA.replace("val_set_size: 0.05", "")).tables)
    assert not any(name == "evaluation" for name, _ in _read(_QLORA.replace("evals_per_epoch: 2", "")).tables)


@pytest.mark.parametrize(
    ("keys", "bits"),
    [
        ("adapter: lora\nload_in_8bit: true", 8),
        ("adapter: lora\nload_in_4bit: true", 16),
        ("load_in_8bit: true", 16),
        ("adapter: qlora\nload_in_4bit: true", 4),
    ],
)
def test_bits_count_only_with_the_adapter_that_takes_them(keys: str, bits: int) -> None:
    assert values(_read(f"base_model: a/b\n{keys}"), "quantization_bits") == (bits,)


@pytest.mark.parametrize(
    ("keys", "dtype", "bf16", "fp16"),
    [
        ("bf16: true", "bfloat16", True, False),
        ("bf16: false\nfp16: true", "float16", False, True),
        ("bf16:\nfp16: true", "float16", False, True),
        ("bf16:", "float32", False, False),
        ("fp16: true", "float16", False, True),
        ("bf16: false\nbfloat16: true", "bfloat16", True, False),
        ("bf16: false\nfloat16: true", "float16", False, False),
        ("bf16: false\nadapter: lora\nload_in_8bit: true", "float16", False, False),
    ],
)
def test_the_dtype_of_the_weights_follows_the_precision(keys: str, dtype: str, bf16: bool, fp16: bool) -> None:
    assert values(_read(f"base_model: a/b\n{keys}"), "load_dtype", "bf16", "fp16") == (dtype, bf16, fp16)


@pytest.mark.parametrize("keys", ["", "bf16: auto"])
def test_auto_asks_the_gpu(keys: str) -> None:
    facts = {fact.name: fact for fact in _read(f"base_model: a/b\n{keys}").facts}

    assert [item.value for item in facts["load_dtype"].candidates] == ["bfloat16", "float16"]
    for name, expected in (("a100-sxm4-80gb", "bfloat16"), ("t4", "float16")):
        gpu = find_gpu(name)
        assert isinstance(gpu, Gpu)
        decided = by_gpu(facts, gpu)
        assert decided["load_dtype"].value == expected
        assert decided["fp16"].value is (expected == "float16")


@pytest.mark.parametrize(
    ("keys", "objective", "trainer", "model_class"),
    [
        ("rl: dpo", "dpo", "DPOTrainer", None),
        ("rl: ipo", "ipo", "DPOTrainer", None),
        ("rl: simpo", "simpo", "CPOTrainer", None),
        ("rl: grpo\ntrl: {num_generations: 4}", "grpo", "GRPOTrainer", None),
        ("reward_model: true", "reward", "RewardTrainer", "AutoModelForSequenceClassification"),
        ("process_reward_model: true", "prm", "PRMTrainer", "AutoModelForTokenClassification"),
        ("processor_type: AutoProcessor", "sft-vlm", "", None),
        ("pretraining_dataset: [{path: c4}]", "pretrain", "", None),
        ("plugins: [axolotl.integrations.kd.KDPlugin]\nkd_trainer: true", "kd", "", None),
        ("datasets: [{path: a, type: alpaca}]", "sft", "", None),
    ],
)
def test_what_is_optimised(keys: str, objective: str, trainer: str, model_class: str | None) -> None:
    sheet = _read(f"base_model: a/b\n{keys}")

    assert values(sheet, "objective", "model_class") == (objective, model_class)
    loop = sheet.get("loop")
    assert loop is not None
    assert loop.key == trainer


def test_an_engine_generates_beside_the_trainer() -> None:
    sheet = _read("base_model: a/b\nrl: grpo\ntrl:\n  use_vllm: true\n  beta: 0.01\nvllm:\n  tensor_parallel_size: 2\n")

    assert values(sheet, "inference_engine", "inference_tensor_parallel", "kl_coefficient") == ("vllm", 2, 0.01)
    fraction = sheet.get("inference_memory_fraction")
    assert fraction is not None
    assert (fraction.value, fraction.origin) == (0.9, Origin.DEFAULT)


def test_plugins_make_their_keys_effective() -> None:
    liger = "liger_fused_linear_cross_entropy: true\nliger_rope: true\n"
    without = _read(f"base_model: a/b\n{liger}")
    sheet = _read(f"base_model: a/b\n{liger}plugins:\n  - axolotl.integrations.liger.LigerPlugin\n")

    assert values(without, "fused_loss", "liger") == (False, False)
    assert values(sheet, "fused_loss", "liger", "liger_rope", "liger_rms_norm") == (True, True, True, False)


def test_cut_cross_entropy_is_on_by_its_plugin_alone() -> None:
    plugin = "plugins:\n  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin\n"
    sheet = _read(f"base_model: a/b\n{plugin}")
    off = _read(f"base_model: a/b\ncut_cross_entropy: false\n{plugin}")

    assert values(sheet, "fused_loss", "loss_type", "full_logits") == (True, "cut", False)
    assert lines(sheet, "fused_loss") == (3,)
    assert values(off, "fused_loss", "full_logits") == (False, None)


@pytest.mark.parametrize(
    ("keys", "fsdp", "version"),
    [
        ("fsdp: [full_shard, auto_wrap]\nfsdp_config: {fsdp_offload_params: true}", "full_shard auto_wrap", 1),
        ("fsdp: [auto_wrap, full_shard]\nfsdp_config: {fsdp_version: 2}", "full_shard auto_wrap", 2),
        ("fsdp_version: 2\nfsdp_config: {offload_params: true}", True, 2),
        ("fsdp_config: {version: 2, reshard_after_forward: true}", True, 2),
        ("fsdp: []\nfsdp_config: {}", None, None),
        ("fsdp:\nfsdp_config:", None, None),
    ],
)
def test_fsdp_in_all_its_spellings(keys: str, fsdp: object, version: int | None) -> None:
    assert values(_read(f"base_model: a/b\n{keys}"), "fsdp", "fsdp_version") == (fsdp, version)


def test_the_mesh_and_files_that_are_named() -> None:
    sheet = _read(
        "base_model: a/b\ndp_shard_size: 4\ntensor_parallel_size: 2\nsequence_parallel_degree: 2\n"
        "deepspeed: deepspeed_configs/zero3.json\n"
    )

    assert values(sheet, "data_parallel_shard", "tensor_parallel", "context_parallel") == (4, 2, 2)
    assert [(link.kind, link.target) for link in sheet.links] == [("deepspeed", "deepspeed_configs/zero3.json")]


def test_training_that_knows_of_a_later_quantization() -> None:
    assert values(_read("base_model: a/b\nqat:\n  weight_dtype: nvfp4\n"), "fake_quantization") == ("nvfp4",)
    assert values(_read("base_model: a/b\nqat:\n  group_size: 32\n"), "fake_quantization") == ("int8",)


@pytest.mark.parametrize(
    ("keys", "widens"),
    [
        ("bf16: true", True),
        ("bf16: true\nsdp_attention: true", True),
        ("bf16: true\nflash_attention: true", False),
        ("bf16: true\nadapter: lora", False),
        ("bf16: true\nfsdp_version: 2\nfsdp_config:\n  offload_params: false", False),
        ("bf16: true\ndeepspeed: deepspeed_configs/zero1.json", False),
        ("bf16: true\nplugins:\n- axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin", False),
    ],
)
def test_what_stays_in_float32_where_all_of_the_model_trains(keys: str, widens: bool) -> None:
    (patterns,) = values(_read(f"base_model: a/b\n{keys}\n"), "float32_parameters")

    assert (patterns is not None) is widens
    if isinstance(patterns, tuple):
        names = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"]
        assert [name for name in names if re.search(str(patterns[0]), name)] == [names[0], names[2]]


def test_a_mesh_of_written_sizes_says_how_many_gpus_there_are() -> None:
    sheet = _read("base_model: a/b\ndp_shard_size: 4\ndp_replicate_size: 2\ntensor_parallel_size: 2\n")

    assert values(sheet, "world_size") == (16,)


def test_offloading_and_how_layers_are_recomputed() -> None:
    checkpointing = "base_model: a/b\ngradient_checkpointing: true\n"
    names = ("activation_checkpointing", "activation_offloading", "checkpointing_reentrant")

    assert values(_read(checkpointing), *names) == (True, False, True)
    assert values(_read(f"{checkpointing}rl: dpo\n"), *names) == (True, False, False)
    assert values(_read(f"{checkpointing}activation_offloading: legacy\n"), *names) == (True, "legacy", False)
    assert values(_read("base_model: a/b\ngradient_checkpointing: offload\n"), *names) == (True, True, False)
    hidden = _read(f"{checkpointing}activation_offloading: hidden_states\nadapter: lora\n")
    assert values(hidden, "checkpointing_offload") == (True,)


def test_accumulation_follows_from_the_whole_batch() -> None:
    sheet = _read("base_model: a/b\nmicro_batch_size: 2\nbatch_size: 16\n")

    assert values(sheet, "gradient_accumulation_steps", "micro_batch_size") == (8, 2)
    assert lines(sheet, "gradient_accumulation_steps") == (3,)


def test_all_but_the_named_parameters_are_frozen() -> None:
    sheet = _read(
        'base_model: a/b\nunfrozen_parameters:\n  - ^lm_head.weight$\n  - "model.embed_tokens.weight$[:32000]"\n'
    )

    (patterns,) = values(sheet, "frozen_parameters")
    assert isinstance(patterns, tuple)
    frozen = re.compile(patterns[0])
    assert frozen.search("model.layers.0.mlp.up_proj.weight")
    assert not frozen.search("lm_head.weight")
    assert not frozen.search("model.embed_tokens.weight")


def test_defaults_are_those_of_the_release() -> None:
    assert values(_read("base_model: a/b\n"), "optimizer", "sequence_length", "micro_batch_size") == (
        "adamw_torch_fused",
        512,
        1,
    )
    assert values(_read("base_model: a/b\n", "0.5.2"), "optimizer") == ("adamw_hf",)


def test_a_checkpoint_that_is_expanded_is_not_quantized() -> None:
    stored = "base_model: openai/gpt-oss-20b\nbf16: true\nmodel_quantization_config: Mxfp4Config\n"
    expanded = _read(f"{stored}model_quantization_config_kwargs:\n  dequantize: true\n")

    assert values(_read(stored), "quantization_bits", "quantization_type") == (4, "mxfp4")
    assert values(expanded, "quantization_bits", "load_dtype") == (16, "bfloat16")


@pytest.mark.parametrize(
    ("text", "release", "kind", "key", "suggestion"),
    [
        ("gradient_checkpoint: true", "", "unknown-key", "gradient_checkpoint", "gradient_checkpointing"),
        ("max_seq_length: 2048", "", "unknown-key", "max_seq_length", "sequence_len"),
        ("context_parallel_size: 2", "0.8.0", "unknown-key", "context_parallel_size", ""),
        ("trl: {num_generation: 4}", "", "unknown-key", "trl.num_generation", "trl.num_generations"),
    ],
)
def test_keys_that_axolotl_drops_are_told(text: str, release: str, kind: str, key: str, suggestion: str) -> None:
    remarks = _read(f"base_model: a/b\n{text}\n", release).remarks

    assert [(item.kind, item.subject, item.suggestion) for item in remarks] == [(kind, key, suggestion)]


def test_keys_of_plugins_fsdp_prefixes_and_empty_keys_are_taken() -> None:
    text = """\
base_model: a/b
liger_rms_norm: true
swanlab_project: p
fsdp_config:
  fsdp_offload_params: false
  fsdp_limit_all_gathers: true
xpos_rope:
model_config:
  rope_scaling: {type: linear}
"""
    assert _read(text).remarks == ()


def _launched(command: str, config: str = _QLORA) -> Mapping[str, Fact]:
    (job,) = check({"run.sh": f"{command}\n", "conf/qlora.yml": config}, "run.sh").jobs
    return {fact.name: fact for fact in job.facts}


def test_options_of_the_command_win_over_the_file() -> None:
    facts = _launched("axolotl train conf/qlora.yml --micro-batch-size 8 --lora_r=64 --no-gradient-checkpointing")

    assert facts["micro_batch_size"].value == 8
    assert facts["lora_r"].value == 64
    assert facts["activation_checkpointing"].value is False
    assert facts["sequence_length"].value == 4096


def test_a_key_that_was_dropped_first_of_all_tells_an_older_release() -> None:
    sheet = _read(f"{_QLORA}eval_table_max_new_tokens: 128\n")

    assert sheet.remarks == ()


def test_linear_layers_are_added_to_the_modules_that_are_named() -> None:
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    some, more = ("q_proj", "v_proj"), (*linear, "embed_tokens", "lm_head")

    assert values(_read(f"{_QLORA}lora_target_modules: {list(some)}\n"), "lora_target_modules") == ("all-linear",)
    assert values(_read(f"{_QLORA}lora_target_modules: {list(linear)}\n"), "lora_target_modules") == ("all-linear",)
    assert values(_read(f"{_QLORA}lora_target_modules: {list(more)}\n"), "lora_target_modules") == (more,)


@pytest.mark.parametrize(
    "command",
    [
        "axolotl train conf/qlora.yml --launcher torchrun -- --nproc_per_node=4",
        "axolotl train conf/qlora.yml -- --num_processes=4",
        "accelerate launch --num_processes 4 -m axolotl.cli.train conf/qlora.yml",
        "torchrun --nproc_per_node 4 -m axolotl.cli.train conf/qlora.yml",
    ],
)
def test_the_processes_of_a_command(command: str) -> None:
    facts = _launched(command)

    assert facts["world_size"].value == 4
    assert facts["model"].value == "NousResearch/Meta-Llama-3-8B"


def test_a_deepspeed_file_that_comes_with_axolotl_is_known_without_a_copy() -> None:
    facts = _launched("axolotl train conf/qlora.yml --deepspeed deepspeed_configs/zero3_bf16_cpuoffload_all.json")

    assert facts["zero_stage"].value == 3
    assert facts["offload_parameters"].value == "cpu"
    assert facts["optimizer"].value == "adamw_bnb_8bit"  # zero_force_ds_cpu_optimizer is off there


def test_a_deepspeed_file_of_the_project_is_not_taken_for_one_of_axolotls() -> None:
    assert shipped("deepspeed_configs/own.json") is None
    assert shipped("conf/zero3.json") is None


def test_keys_of_the_models_config_are_changed() -> None:
    sheet = _read("base_model: a/b\nmodel_config:\n  num_hidden_layers: 4\n  output_router_logits: true\n")

    changed = next(table for name, table in sheet.tables if name == "config-overrides")
    assert [entry.key for entry in changed] == ["num_hidden_layers"]
    assert values(sheet, "router_logits") == (True,)


def test_four_bit_weights_are_multiplied_in_their_own_dtype() -> None:
    assert values(_read(_QLORA), "quantization_compute_dtype") == ("bfloat16",)
    auto = _read(_QLORA.replace("bf16: true", "")).get("quantization_compute_dtype")
    assert auto is not None
    assert [item.value for item in auto.candidates] == ["bfloat16", "float16"]


_EXPERT, _GATE = "model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.gate.weight"
_NARROWED = ("model.layers.0.input_layernorm.weight", "model.embed_tokens.weight", "lm_head.weight")


@pytest.mark.parametrize(
    ("keys", "wide"),
    [
        ("adapter: qlora\nload_in_4bit: true", {_EXPERT, _GATE}),
        ("adapter: lora\nload_in_8bit: true", {_EXPERT, _GATE}),
        ("adapter: qlora\nload_in_4bit: true\nquantize_moe_experts: true", {_GATE}),
        ("adapter: qlora\nload_in_4bit: true\ndeepspeed: deepspeed_configs/zero2.json", {_EXPERT, _GATE}),
        ("adapter: qlora\nload_in_4bit: true\ndeepspeed: deepspeed_configs/zero3_bf16.json", set()),
        ("adapter: qlora\nload_in_4bit: true\nfsdp_version: 2\nfsdp_config: {reshard_after_forward: true}", set()),
        ("adapter: lora", set()),
    ],
)
def test_what_bitsandbytes_leaves_alone_is_widened_beside_it(keys: str, wide: set[str]) -> None:
    (patterns,) = values(_read(f"base_model: a/b\nbf16: true\n{keys}\n"), "float32_parameters")

    found = patterns if isinstance(patterns, tuple) else ()
    names = (_EXPERT, _GATE, *_NARROWED)
    assert {name for name in names for pattern in found if re.search(str(pattern), name)} == wide


@pytest.mark.parametrize(
    ("more", "form"),
    [
        ("context_parallel_size: 4\nsample_packing: true\n", "flash-gather"),
        ("sequence_parallel_degree: 4\n", "flash-ring"),
        ("context_parallel_size: 4\nsample_packing: true\nring_attn_func: batch_ring\n", "flash-ring"),
        ("context_parallel_size: 1\n", None),
    ],
)
def test_packed_rows_are_gathered_and_others_go_round(more: str, form: str | None) -> None:
    fact = _read(f"base_model: a/b\nheads_k_stride: 2\n{more}").get("sequence_sharing")
    assert (fact.value if fact else None) == form

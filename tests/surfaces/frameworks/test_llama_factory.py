"""LLaMA-Factory's keys, its own words, its defaults by release, its second generation."""

from __future__ import annotations

import pytest

from tests.api.test_launching import check
from tests.surfaces.frameworks.reading import fact, line, remarks, says, sheet
from vramlint.facts import Origin

_LORA = """\
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
bf16: true
"""
_FULL = _LORA.replace("finetuning_type: lora\nlora_rank: 16", "finetuning_type: full")


def test_adapters_by_default():
    found = sheet("llama-factory", _LORA)
    assert says(found, "tuning", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules") == {
        "tuning": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target_modules": "all-linear",
    }
    assert fact(found, "lora_alpha").origin is Origin.DEFAULT
    assert (line(found, "tuning"), line(found, "lora_r"), line(found, "objective")) == (4, 5, 2)


def test_checkpointing_is_on_unless_it_is_disabled():
    on, off = sheet("llama-factory", _LORA), sheet("llama-factory", _LORA + "disable_gradient_checkpointing: true\n")
    assert says(on, "activation_checkpointing", "checkpointing_reentrant") == {
        "activation_checkpointing": True,
        "checkpointing_reentrant": True,
    }
    assert fact(on, "activation_checkpointing").origin is Origin.DEFAULT
    assert fact(off, "activation_checkpointing").value is False
    assert line(off, "activation_checkpointing") == 7


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        (_FULL, "float32"),
        (_FULL.replace("bf16", "pure_bf16"), "bfloat16"),
        (_FULL + "use_badam: true\n", "bfloat16"),
        (_LORA.replace("bf16", "pure_bf16"), "float32"),
    ],
)
def test_what_trains_is_float32_unless_it_is_kept_narrow(text: str, dtype: str):
    assert fact(sheet("llama-factory", text), "trainable_dtype").value == dtype


@pytest.mark.parametrize(
    ("stage", "objective"), [("pt", "pretrain"), ("sft", "sft"), ("rm", "reward"), ("dpo", "dpo"), ("kto", "kto")]
)
def test_the_stage_is_the_objective(stage: str, objective: str):
    assert fact(sheet("llama-factory", _LORA.replace("sft", stage)), "objective").value == objective


def test_preference_losses_without_a_reference_are_objectives():
    found = sheet("llama-factory", _LORA.replace("sft", "dpo") + "pref_loss: orpo\n")
    assert fact(found, "objective").value == "orpo"


def test_only_pretraining_packs_by_default():
    assert fact(sheet("llama-factory", _LORA), "packing").value is False
    assert fact(sheet("llama-factory", _LORA.replace("sft", "pt")), "packing").value is True
    assert fact(sheet("llama-factory", _LORA + "neat_packing: true\n"), "packing").value is True


def test_four_bits():
    found = sheet("llama-factory", _LORA + "quantization_bit: 4\nquantization_method: bnb\n")
    assert says(
        found, "quantization_bits", "quantization_type", "double_quantization", "quantization_compute_dtype"
    ) == {
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "double_quantization": True,
        "quantization_compute_dtype": "bfloat16",
    }


def test_low_rank_optimizers_say_their_rank():
    text = _FULL.replace("bf16", "pure_bf16") + "use_apollo: true\napollo_layerwise: true\napollo_rank: 128\n"
    found = sheet("llama-factory", text)
    assert says(found, "optimizer", "optimizer_rank", "optimizer_in_backward", "precision") == {
        "optimizer": "apollo_adamw_layerwise",
        "optimizer_rank": 128,
        "optimizer_in_backward": True,
        "precision": "bf16-pure",
    }


def test_the_last_layers_train_when_others_are_frozen():
    found = sheet("llama-factory", _FULL.replace("full", "freeze") + "freeze_trainable_layers: 3\n")
    assert fact(found, "tuning").value == "freeze"
    assert fact(found, "frozen_parameters").value == (r"^(?!.*\.(?:21|22|23)\.)",)


def test_liger_leaves_the_head_alone_where_logits_are_needed():
    text = _LORA + "enable_liger_kernel: true\n"
    assert fact(sheet("llama-factory", text), "fused_loss").value is True
    preference = sheet("llama-factory", text.replace("sft", "dpo"))
    assert says(preference, "fused_loss", "liger", "liger_fused_head") == {
        "fused_loss": False,
        "liger": True,
        "liger_fused_head": False,
    }


@pytest.mark.parametrize(("release", "length", "dtype"), [("0.9.0", 1024, "bfloat16"), ("0.9.5", 2048, "auto")])
def test_defaults_follow_the_release(release: str, length: int, dtype: str):
    found = sheet("llama-factory", _LORA, release=release)
    assert says(found, "sequence_length", "load_dtype") == {"sequence_length": length, "load_dtype": dtype}


def test_megatron_is_told_by_its_keys():
    text = _FULL + "tensor_model_parallel_size: 2\npipeline_model_parallel_size: 4\nrecompute_granularity: full\n"
    found = sheet("llama-factory", text)
    assert says(found, "tensor_parallel", "pipeline_parallel", "expert_parallel", "recompute") == {
        "tensor_parallel": 2,
        "pipeline_parallel": 4,
        "expert_parallel": 1,
        "recompute": "full",
    }
    assert fact(found, "loop").value == "plain"
    assert says(found, "parallelism", "wide_gradients", "expert_dispatcher", "grouped_experts") == {
        "parallelism": "megatron",
        "wide_gradients": False,
        "expert_dispatcher": "allgather",
        "grouped_experts": False,
    }


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("fp8: hybrid", "8-bit products"),
        ("additional_configs: more.json", "further fields of Megatron's configuration"),
        ("moe_expert_capacity_factor: 1.5", "experts with a capacity"),
        ("recompute_modules: gdn_norm_out", "recomputing gdn_norm_out"),
    ],
)
def test_what_mcore_adapter_does_that_is_not_followed_says_why(written: str, reason: str):
    found = sheet("llama-factory", _FULL + f"tensor_model_parallel_size: 2\n{written}\n")
    assert reason in fact(found, "parallelism").reason


def test_adapters_under_megatron_are_not_followed():
    found = sheet("llama-factory", _LORA + "tensor_model_parallel_size: 2\n")
    assert "adapters under Megatron" in fact(found, "parallelism").reason


def test_a_file_to_merge_adapters_trains_nothing():
    text = "model_name_or_path: gpt2\nadapter_name_or_path: saves/lora\nexport_dir: out\n"
    assert fact(sheet("llama-factory", text), "run_kind").value == "inference"


def test_misspelt_keys_are_told_and_the_trainers_are_taken():
    found = sheet("llama-factory", _LORA + "lora_rnak: 8\nlogging_steps: 10\nweight_decay: 0.1\n")
    assert remarks(found) == [("unknown-key", "lora_rnak", "lora_rank")]


_SECOND = """\
model: Qwen/Qwen3-0.6B
peft_config: {name: lora, r: 16}
dist_config:
  name: fsdp2
train_dataset: data/mine.yaml
micro_batch_size: 2
cutoff_len: 1024
"""


@pytest.mark.parametrize(
    ("more", "form"),
    [
        ("flash_attn: flash_attention_2\nbatching_strategy: padding_free\n", "verl"),
        ("flash_attn: flash_attention_2\n", None),
        ("batching_strategy: padding_free\n", None),
    ],
)
def test_the_second_generations_ulysses_is_followed_without_padding(more, form):
    found = sheet("llama-factory", f"{_SECOND}cp_size: 2\n{more}")
    assert says(found, "context_parallel") == {"context_parallel": 2}
    said = found.get("sequence_sharing")
    assert (said.value if said else None) == form


def test_the_second_generation_names_its_keys_otherwise():
    found = sheet("llama-factory", _SECOND)
    assert found.kind == "llama-factory-v1"
    assert remarks(found) == []
    assert says(found, "model", "tuning", "lora_r", "lora_alpha", "fsdp", "fsdp_version", "bf16") == {
        "model": "Qwen/Qwen3-0.6B",
        "tuning": "lora",
        "lora_r": 16,
        "lora_alpha": 16,
        "fsdp": "full_shard auto_wrap",
        "fsdp_version": 2,
        "bf16": True,
    }
    assert says(found, "micro_batch_size", "sequence_length", "activation_checkpointing") == {
        "micro_batch_size": 2,
        "sequence_length": 1024,
        "activation_checkpointing": True,
    }


def test_the_second_generation_trains_in_full_without_adapters():
    found = sheet("llama-factory", _SECOND.replace("peft_config: {name: lora, r: 16}\n", ""))
    assert says(found, "tuning", "load_dtype") == {"tuning": "full", "load_dtype": "float32"}


def test_frozen_layers_stay_as_they_are_loaded(explained):
    """What trains is float32, the rest keeps the checkpoint's dtype: 4 of 32 layers of Llama 3 8B."""
    text = _FULL.replace("Qwen/Qwen2.5-0.5B-Instruct", "meta-llama/Meta-Llama-3-8B-Instruct")
    shares = "per_device_train_batch_size: 1\ncutoff_len: 512\n"
    frozen = explained.job("freeze.yaml", text.replace("full", "freeze") + "freeze_trainable_layers: 4\n" + shares)
    full = explained.job("full.yaml", text + shares)
    assert (frozen["status"], full["status"]) == ("checked", "checked")
    layers, rest = 872_448_000, 8_030_261_248 - 872_448_000
    assert frozen["estimate"]["high"]["parameters_bytes"] == 4 * layers + 2 * rest
    assert full["estimate"]["high"]["parameters_bytes"] == 4 * 8_030_261_248


@pytest.mark.parametrize(
    ("extra", "unresolved"),
    [
        ("mixture_of_depths: convert\n", "model class"),
        ("use_kt: true\n", "parallelism"),
        ("tensor_model_parallel_size: 2\n", "parallelism"),
    ],
)
def test_what_is_not_simulated_is_said(explained, extra: str, unresolved: str):
    job = explained.job("run.yaml", _LORA + "per_device_train_batch_size: 1\ncutoff_len: 512\n" + extra)
    assert job["status"] == "unresolved"
    assert unresolved in job["reason"]


def test_a_reward_model_keeps_the_head_of_the_language_model(explained):
    job = explained.job("run.yaml", _LORA.replace("sft", "rm") + "per_device_train_batch_size: 1\ncutoff_len: 512\n")
    assert (job["status"], "value head" in job["reason"]) == ("unresolved", True)


def test_evaluation_alone_is_no_training():
    text = _LORA.replace("do_train: true", "do_predict: true")
    assert fact(sheet("llama-factory", text), "run_kind").value == "inference"


_OLD = "python src/train_bash.py --do_train --model_name_or_path meta-llama/Llama-2-7b-hf --fp16 --output_dir o"


@pytest.mark.parametrize(
    ("flags", "length", "release"),
    [
        ("--stage sft", 1024, "0.7.0"),
        ("--stage sft --max_source_length 512", 1024, "0.1.8"),
        ("--stage sft --max_source_length 1024 --max_target_length 256", 1280, "0.1.8"),
        ("--stage pt --max_source_length 2048", 2048, "0.1.8"),
        ("--stage sft --cutoff_len 4096", 4096, "0.7.0"),
    ],
)
def test_the_old_program_is_of_an_old_release(flags: str, length: int, release: str):
    report = check({"run.sh": f"{_OLD} {flags}\n"}, "run.sh")
    (job,) = report.jobs
    facts = {fact.name: fact for fact in job.facts}
    assert (facts["sequence_length"].value, facts["load_dtype"].value) == (length, "float16")
    assert facts["lora_dropout"].library == f"llamafactory {release}"
    assert not [finding for finding in report.findings if "key" in finding.name]


@pytest.mark.parametrize("switch", ["enable_liger_kernel", "use_liger_kernel"])
def test_liger_has_two_switches(switch: str):
    found = sheet("llama-factory", f"model_name_or_path: Qwen/Qwen2.5-7B-Instruct\nstage: sft\n{switch}: true\n")
    assert says(found, "liger", "fused_loss") == {"liger": True, "fused_loss": True}
    assert line(found, "liger") == 3


_COMMAND = (
    "llamafactory-cli train --model_name_or_path Qwen/Qwen2.5-7B-Instruct --stage sft --finetuning_type full --bf16"
)


@pytest.mark.parametrize(("name", "stage", "offload"), [("z0", 0, None), ("z2", 2, None), ("z3_offload", 3, "cpu")])
def test_deepspeed_configurations_come_with_its_repository(name: str, stage: int, offload: str | None):
    report = check({"run.sh": f"{_COMMAND} --deepspeed examples/deepspeed/ds_{name}_config.json\n"}, "run.sh")
    (job,) = report.jobs
    facts = {fact.name: fact.value for fact in job.facts}
    assert (facts["zero_stage"], facts.get("offload_parameters")) == (stage, offload)
    assert not [finding for finding in report.findings if finding.name == "missing-file"]


def test_a_copy_of_a_deepspeed_configuration_holds():
    files = {
        "run.sh": f"{_COMMAND} --deepspeed examples/deepspeed/ds_z3_config.json\n",
        "examples/deepspeed/ds_z3_config.json": '{"zero_optimization": {"stage": 1}}',
    }
    (job,) = check(files, "run.sh").jobs
    facts = {fact.name: fact for fact in job.facts}
    assert facts["zero_stage"].value == 1
    assert facts["tuning"].value == "full"


def test_a_second_start_of_a_tool_does_not_write_what_the_first_reads():
    loop = f"for lr in 1e-5 2e-5; do\n{_COMMAND} --deepspeed ds.json --learning_rate $lr\ndone\n"
    report = check({"run.sh": loop}, "run.sh")
    assert {finding.name for finding in report.findings} >= {"missing-file"}


def test_sequences_that_megatron_bridge_packs():
    text = _LORA + "mixed_precision: bf16_mixed\nuse_packed_sequences: "
    off, on = (sheet("llama-factory", text + word) for word in ("false\n", "true\n"))
    assert (fact(off, "packing").value, line(off, "packing")) == (False, 8)
    assert (fact(on, "packing").value, line(on, "packing")) == (True, 8)

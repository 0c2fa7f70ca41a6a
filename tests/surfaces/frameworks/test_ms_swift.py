"""ms-swift's keys by release, its presets, its environment, its Megatron back end."""

from __future__ import annotations

import re

import pytest

from tests.api.test_launching import check
from tests.surfaces.frameworks.reading import fact, line, remarks, says, sheet
from vramlint.facts import Fact, Origin
from vramlint.surfaces.models import FROZEN_BY_HAND


def _run(line: str) -> dict[str, Fact]:
    (job,) = check({"run.sh": line + "\n"}, "run.sh").jobs
    return {fact.name: fact for fact in job.facts}


_LORA = """\
model: Qwen/Qwen2.5-0.5B-Instruct
tuner_type: lora
torch_dtype: bfloat16
dataset: swift/self-cognition#500
max_length: 1024
"""


def test_defaults_are_not_those_of_the_trainer():
    found = sheet("ms-swift", _LORA)
    assert says(found, "micro_batch_size", "eval_micro_batch_size", "activation_checkpointing", "packing") == {
        "micro_batch_size": 1,
        "eval_micro_batch_size": 1,
        "activation_checkpointing": True,
        "packing": False,
    }
    assert says(found, "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules") == {
        "lora_r": 8,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "lora_target_modules": "all-linear",
    }
    assert fact(found, "lora_r").origin is Origin.DEFAULT


@pytest.mark.parametrize(("dtype", "bf16"), [("bfloat16", True), ("float16", False), ("float32", False)])
def test_the_dtype_of_the_weights_turns_autocast_on(dtype: str, bf16: bool):
    found = sheet("ms-swift", _LORA.replace("bfloat16", dtype))
    assert says(found, "load_dtype", "bf16", "fp16") == {"load_dtype": dtype, "bf16": bf16, "fp16": not bf16}


@pytest.mark.parametrize(
    ("name", "stage"),
    [("zero0", 0), ("zero1", 1), ("zero2", 2), ("zero3", 3), ("zero2_offload", 2), ("zero3_offload", 3)],
)
def test_deepspeed_presets_come_with_it(name: str, stage: int):
    found = sheet("ms-swift", f"{_LORA}deepspeed: {name}\n")
    assert fact(found, "zero_stage").value == stage
    assert line(found, "zero_stage") == 6
    (table,) = (table for kind, table in found.tables if kind == "deepspeed")
    device = table.get("zero_optimization", "offload_optimizer", "device")
    assert (device is not None and getattr(device, "value", None) == "cpu") == name.endswith("offload")


def test_fsdp_presets_checkpoint_by_themselves():
    found = sheet("ms-swift", _LORA + "fsdp: fsdp2\n")
    assert says(found, "fsdp", "activation_checkpointing") == {
        "fsdp": "full_shard auto_wrap",
        "activation_checkpointing": True,
    }


def test_the_environment_of_a_file_says_how_many_processes_there_are():
    found = sheet(
        "ms-swift", _LORA + "ENV:\n  NPROC_PER_NODE: 4\n  PYTORCH_CUDA_ALLOC_CONF: expandable_segments:True\n"
    )
    assert says(found, "world_size", "gradient_accumulation_steps", "allocator_settings") == {
        "world_size": 4,
        "gradient_accumulation_steps": 4,
        "allocator_settings": "expandable_segments:True",
    }


def test_without_processes_nobody_knows_the_accumulation():
    assert fact(sheet("ms-swift", _LORA), "gradient_accumulation_steps").origin is Origin.UNKNOWN


def test_a_file_alone_does_not_say_the_command():
    assert fact(sheet("ms-swift", _LORA), "objective").origin is Origin.ASSUMED


def test_sampling_objectives_say_what_they_sample():
    text = _LORA + "rlhf_type: grpo\nuse_vllm: true\nvllm_mode: colocate\nnum_generations: 4\n"
    found = sheet("ms-swift", text)
    assert says(found, "objective", "generations", "completion_length", "inference_engine", "kl_coefficient") == {
        "objective": "grpo",
        "generations": 4,
        "completion_length": 512,
        "inference_engine": "vllm",
        "kl_coefficient": 0.04,
    }
    assert fact(found, "gradient_accumulation_steps").value == 1


def test_where_it_samples_max_length_bounds_the_prompt():
    found = sheet("ms-swift", _LORA + "rlhf_type: grpo\nmax_completion_length: 256\n")
    assert says(found, "prompt_length", "completion_length") == {"prompt_length": 1024, "completion_length": 256}
    assert (line(found, "prompt_length"), found.get("sequence_length")) == (5, None)
    facts = _run("swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-0.5B-Instruct --max_length 512")
    assert (facts["prompt_length"].value, facts["sequence_length"].value) == (512, 1024)


def test_a_coefficient_that_cannot_be_read_is_not_the_default():
    facts = _run("swift rlhf --rlhf_type grpo --model Qwen/Qwen2.5-0.5B-Instruct --beta $BETA")
    assert facts["kl_coefficient"].value is None


def test_keys_of_the_trainer_do_not_tell_the_release():
    """`warmup_ratio` has a row of its own again since 4.5, and was the Trainer's in between."""
    found = sheet("ms-swift", "model: Qwen/Qwen2.5-0.5B-Instruct\ntrain_type: lora\nwarmup_ratio: 0.05\n")
    assert remarks(found) == []
    assert fact(found, "tuning").value == "lora"


def test_four_bits_compute_in_the_dtype_of_the_weights():
    found = sheet("ms-swift", _LORA + "quant_method: bnb\nquant_bits: 4\n")
    assert says(
        found, "quantization_bits", "quantization_type", "double_quantization", "quantization_compute_dtype"
    ) == {
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "double_quantization": True,
        "quantization_compute_dtype": "bfloat16",
    }


def test_full_tuning_has_no_rank():
    found = sheet("ms-swift", _LORA.replace("lora", "full"))
    assert found.get("lora_r") is None
    assert found.get("lora_target_modules") is None


@pytest.mark.parametrize(
    ("text", "tuning", "length"),
    [
        ("model: gpt2\ntrain_type: full\nmax_length: 512\n", "full", 512),
        ("model_id_or_path: gpt2\nsft_type: lora\n", "lora", 2048),
    ],
)
def test_older_releases_have_other_names(text: str, tuning: str, length: int):
    found = sheet("ms-swift", text)
    assert says(found, "model", "tuning", "sequence_length") == {
        "model": "gpt2",
        "tuning": tuning,
        "sequence_length": length,
    }
    assert remarks(found) == []


def test_a_pinned_release_tells_names_that_went():
    found = sheet("ms-swift", "model: gpt2\ntrain_type: full\n", release="4.5.0")
    assert remarks(found) == [("removed-key", "train_type", "tuner_type")]


_MEGATRON = """\
model: Qwen/Qwen2.5-7B-Instruct
micro_batch_size: 2
global_batch_size: 16
tensor_model_parallel_size: 2
sequence_parallel: true
max_length: 4096
packing: true
torch_dtype: bfloat16
"""


def test_megatron_is_another_form_with_other_defaults():
    found = sheet("ms-swift", _MEGATRON)
    assert found.kind == "ms-swift-megatron"
    assert says(found, "tuning", "recompute", "distributed_optimizer", "sequence_parallel", "padding_free") == {
        "tuning": "full",
        "recompute": "selective",
        "distributed_optimizer": True,
        "sequence_parallel": True,
        "padding_free": True,
    }
    assert says(found, "tensor_parallel", "pipeline_parallel", "optimizer", "precision") == {
        "tensor_parallel": 2,
        "pipeline_parallel": 1,
        "optimizer": "megatron_adam",
        "precision": "bf16-mixed",
    }


def test_groups_of_a_ray_run_are_read_as_its_keys():
    text = "model: gpt2\nmicro_batch_size: 1\nrlhf_type: gkd\ntrain:\n  gpus: 4\n  tuner_type: lora\n  lora_rank: 4\n"
    found = sheet("ms-swift", text + "rollout:\n  vllm_tensor_parallel_size: 2\n")
    assert says(found, "tuning", "lora_r", "world_size", "inference_tensor_parallel") == {
        "tuning": "lora",
        "lora_r": 4,
        "world_size": 4,
        "inference_tensor_parallel": 2,
    }
    assert remarks(found) == []


def test_misspelt_keys_are_told():
    found = sheet("ms-swift", _LORA + "lora_rnak: 8\nlogging_steps: 5\n")
    assert remarks(found) == [("unknown-key", "lora_rnak", "lora_rank")]


def test_towers_stay_frozen_unless_told_otherwise():
    seeing = _LORA.replace("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct")
    adapted, whole = sheet("ms-swift", seeing), sheet("ms-swift", seeing.replace("lora", "full"))
    (towers, projectors) = fact(whole, "frozen_parameters").value
    assert re.search(towers, "model.visual.blocks.0.attn.qkv.weight")
    assert re.search(projectors, "model.visual.merger.mlp.0.weight")
    assert not re.search(towers, "model.language_model.layers.0.mlp.up_proj.weight")
    excluded = fact(adapted, "lora_exclude_modules").value
    assert re.fullmatch(excluded, "model.visual.blocks.0.attn.qkv")
    assert not re.fullmatch(excluded, "model.language_model.layers.0.mlp.up_proj")
    assert sheet("ms-swift", _LORA).get("lora_exclude_modules") is None


@pytest.mark.parametrize("start", ["swift sft", "python -m swift.cli.sft", "torchrun swift/cli/sft.py"])
def test_the_program_says_the_objective(start: str):
    objective = _run(f"{start} --model Qwen/Qwen2.5-0.5B-Instruct")["objective"]
    assert (objective.value, objective.origin) == ("sft", Origin.WRITTEN)


@pytest.mark.parametrize(
    ("before", "launcher", "world"),
    [
        ("", "python", 1),
        ("NPROC_PER_NODE=2 ", "swift", 2),
        ("NNODES=2 ", "swift", 2),
        ("CUDA_VISIBLE_DEVICES=0,1 ", "python", 2),
        ("CUDA_VISIBLE_DEVICES=0,1 accelerate launch -m ", "accelerate", 2),
    ],
)
def test_one_process_runs_unless_the_environment_asks_for_more(before: str, launcher: str, world: int):
    start = "swift sft" if "accelerate" not in before else "swift.cli.sft"
    found = _run(f"{before}{start} --model Qwen/Qwen2.5-0.5B-Instruct --max_length 512")
    assert (found["launcher"].value, found["world_size"].value) == (launcher, world)
    assert ("device_map" in found) == (launcher == "python")


@pytest.mark.parametrize(
    ("flag", "by_hand"),
    [
        ("--lisa_activated_layers 2", True),
        ("--freeze_parameters_ratio 0.5", True),
        ("--freeze_parameters_ratio 0", False),
        ("--freeze_parameters model.embed_tokens", True),
    ],
)
def test_parts_that_a_share_or_a_draw_freezes_are_not_known(flag: str, by_hand: bool):
    tuning = _run(f"swift sft --model Qwen/Qwen2.5-0.5B-Instruct --tuner_type full {flag}")["tuning"]
    assert tuning.value == "full"
    assert tuning.reason.startswith(FROZEN_BY_HAND) == by_hand


@pytest.mark.parametrize(
    ("model", "bf16", "origin"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", True, Origin.DERIVED),
        ("meta-llama/Llama-2-7b-hf", False, Origin.DERIVED),
        ("./mine", True, Origin.ASSUMED),
    ],
)
def test_autocast_follows_the_checkpoint(model: str, bf16: bool, origin: Origin):
    found = sheet("ms-swift", f"model: {model}\ntuner_type: lora\ndataset: a\n")
    assert (fact(found, "bf16").value, fact(found, "bf16").origin) == (bf16, origin)
    assert fact(found, "fp16").value == (not bf16)


@pytest.mark.parametrize(
    ("scale", "whole"), [("hermes", True), ("last_round+react", True), ("all", False), ("ignore_empty_think", False)]
)
def test_weights_of_tokens_need_all_logits(scale: str, whole: bool):
    found = sheet("ms-swift", f"{_LORA}use_liger_kernel: true\nloss_scale: {scale}\n")
    assert (found.get("liger_fused_head") is not None) is whole
    assert (found.get("full_logits") is not None) is whole


def test_a_value_with_an_equals_sign_is_no_override():
    line = "swift sft --model Qwen/Qwen2.5-0.5B-Instruct --optimizer muonclip --optim_args qk_clip_threshold=10000"
    report = check({"run.sh": f"{line} --lora_rank 4\n"}, "run.sh")
    assert not [finding for finding in report.findings if "key" in finding.name]
    assert {fact.name: fact.value for fact in report.jobs[0].facts}["lora_r"] == 4


def test_a_model_that_one_process_spreads_over_its_gpus_is_no_misfit(explained):
    """Without NPROC_PER_NODE the process sees both GPUs; how much of the model lies on each is not simulated."""
    text = "CUDA_VISIBLE_DEVICES=0,1 swift sft --model Qwen/Qwen2.5-72B-Instruct --max_length 2048\n"
    spread = explained.job("train.sh", text)
    assert "parallelism" in spread["unresolved"]
    alone = explained.job("alone.sh", text.replace("0,1", "0"))
    assert "parallelism" not in alone["unresolved"]


def test_a_type_that_has_a_checkpoint_of_its_own_names_the_model_and_adapters_are_the_default():
    text = "model_type: qwen-1_8b-chat\ndataset: jd-sentiment-zh\ntrain_dataset_sample: 100\neval_steps: 5\n"
    found = sheet("ms-swift", text)
    assert says(found, "model", "tuning") == {"model": "qwen-1_8b-chat", "tuning": "lora"}
    assert fact(found, "tuning").origin is Origin.DEFAULT
    named = sheet("ms-swift", text + "model_id_or_path: qwen/Qwen-1_8B-Chat\n")
    assert fact(named, "model").value == "qwen/Qwen-1_8B-Chat"


def test_the_loss_of_shared_sequences_is_its_own():
    found = _run("NPROC_PER_NODE=4 swift sft --model Qwen/Qwen3-8B --sequence_parallel_size 2 --use_liger_kernel true")
    values = [found[name].value for name in ("context_parallel", "sequence_sharing", "liger_fused_head", "full_logits")]
    assert values == [2, "swift", False, True]
    assert "sequence_sharing" not in _run("NPROC_PER_NODE=4 swift sft --model Qwen/Qwen3-8B")

"""open-instruct: its YAML, its defaults, what its scripts do."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.reading import fact, line, says, sheet
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.facts import Origin

SFT = """\
model_name_or_path: allenai/OLMo-2-1124-7B
tokenizer_name: allenai/OLMo-2-1124-7B
dataset_mixer:
    allenai/tulu-3-sft-olmo-2-mixture: 1.0
max_seq_length: 4096
per_device_train_batch_size: 1
gradient_accumulation_steps: 4
with_tracking: true
"""


def test_what_a_file_says_and_what_finetune_does() -> None:
    found = sheet("open-instruct", SFT)
    assert says(found, "model", "sequence_length", "micro_batch_size", "gradient_accumulation_steps") == {
        "model": "allenai/OLMo-2-1124-7B",
        "sequence_length": 4096,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 4,
    }
    assert line(found, "sequence_length") == 5
    assert says(found, "tuning", "load_dtype", "optimizer", "activation_checkpointing", "max_grad_norm") == {
        "tuning": "full",
        "load_dtype": "bfloat16",
        "optimizer": "adamw_torch_fused",
        "activation_checkpointing": False,
        "max_grad_norm": 0,
    }
    assert fact(found, "activation_checkpointing").origin is Origin.DEFAULT
    assert fact(found, "objective").origin is Origin.ASSUMED
    assert found.remarks == ()


def test_defaults_where_a_file_says_nothing() -> None:
    found = sheet("open-instruct", "model_name_or_path: gpt2\nwith_tracking: true\n")
    assert says(found, "micro_batch_size", "gradient_accumulation_steps") == {
        "micro_batch_size": 8,
        "gradient_accumulation_steps": 1,
    }
    assert fact(found, "sequence_length").origin is Origin.UNKNOWN


def test_qlora() -> None:
    found = sheet("open-instruct", SFT + "use_lora: true\nuse_qlora: true\nlora_rank: 32\nuse_8bit_optimizer: true\n")
    assert says(found, "tuning", "lora_r", "lora_alpha", "lora_dropout", "quantization_bits", "optimizer") == {
        "tuning": "qlora",
        "lora_r": 32,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "quantization_bits": 4,
        "optimizer": "paged_adamw_8bit",
    }
    assert fact(found, "lora_target_modules").value == (
        "q_proj", "o_proj", "v_proj", "k_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip


@pytest.mark.parametrize("loss", ["dpo_norm", "simpo"])
def test_preferences_are_told_by_their_loss_and_keep_no_reference(loss: str) -> None:
    found = sheet("open-instruct", SFT + f"loss_type: {loss}\nbeta: 5\n")
    objective = fact(found, "objective")
    assert (objective.value, objective.origin) == ("dpo", Origin.WRITTEN)
    assert says(found, "loss_type", "kl_coefficient", "reference_model") == {
        "loss_type": loss,
        "kl_coefficient": 5,
        "reference_model": "none",
    }


def test_the_online_script_has_defaults_of_its_own() -> None:
    found = sheet("open-instruct", "model_name_or_path: gpt2\nnum_samples_per_prompt_rollout: 16\nbeta: 0.0\n")
    assert says(
        found, "objective", "generations", "micro_batch_size", "inference_engine", "inference_memory_fraction"
    ) == {
        "objective": "grpo",
        "generations": 16,
        "micro_batch_size": 1,
        "inference_engine": "vllm",
        "inference_memory_fraction": 0.9,
    }


def test_a_misspelt_key() -> None:
    (remark,) = sheet("open-instruct", SFT + "gradient_checkpointng: true\n").remarks
    assert (remark.kind, remark.subject, remark.suggestion) == (
        "unknown-key", "gradient_checkpointng", "gradient_checkpointing",
    )  # fmt: skip


def test_rows_of_the_online_script_are_packed_and_its_reference_can_be_left_out() -> None:
    text = "model_name_or_path: gpt2\nnum_samples_per_prompt_rollout: 16\npack_length: 4096\n"
    assert says(sheet("open-instruct", text), "sequence_length", "packing", "reference_model") == {
        "sequence_length": 4096,
        "packing": True,
        "reference_model": "gpt2",
    }
    off = sheet("open-instruct", text + "load_ref_policy: false\n")
    assert fact(off, "reference_model").value == "none"


def test_a_file_without_its_launcher_is_judged_for_a_node_too(explained):
    """Its scripts are started with Accelerate, which may share the model: one GPU alone is no certain misfit."""
    job = explained.job("sft.yaml", SAMPLES["open-instruct"][1])
    world, ways = (
        next(fact for fact in job["facts"] if fact["name"] == name) for name in ("world_size", "parallelism")
    )
    assert [item["value"] for item in world["candidates"]] == [1, 8]
    assert [item["value"] for item in ways["candidates"]] == ["none", "fsdp"]


def test_keys_that_finetune_and_dpo_share_say_nothing_of_the_script() -> None:
    found = sheet("open-instruct", SFT + "load_balancing_loss: true\nuse_8bit_optimizer: true\n")
    assert fact(found, "objective").value == "sft"
    assert fact(found, "objective").origin is Origin.ASSUMED

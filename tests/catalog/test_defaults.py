import pytest

from vramlint.catalog import (
    accepted_keys,
    at_least,
    default,
    effective_default,
    find_deepspeed_key,
    key_history,
    keys,
    lora_targets,
    nearest,
    version_of,
)
from vramlint.catalog.defaults import Default
from vramlint.catalog.lines import lines
from vramlint.catalog.versions import satisfies
from vramlint.job import Libraries


def value(library, key, version, libraries=None):
    found = default(library, key, version_of(version), libraries or Libraries())
    return found.value if found else "absent"


@pytest.mark.parametrize(
    ("library", "key", "version", "expected"),
    [
        ("transformers", "TrainingArguments.per_device_train_batch_size", "4.36.2", 8),
        ("transformers", "TrainingArguments.optim", "4.20.0", "adamw_hf"),
        ("transformers", "TrainingArguments.optim", "4.46.3", "adamw_torch"),
        ("transformers", "TrainingArguments.optim", "4.57.6", "adamw_torch_fused"),
        ("transformers", "TrainingArguments.gradient_checkpointing", "5.23.0", False),
        ("transformers", "TrainingArguments.activation_checkpointing", "5.19.0", "absent"),
        ("transformers", "TrainingArguments.activation_checkpointing", "5.23.0", False),
        ("transformers", "TrainingArguments.gradient_checkpointing_kwargs.use_reentrant", "4.57.6", True),
        ("transformers", "TrainingArguments.gradient_checkpointing_kwargs.use_reentrant", "5.0.0", False),
        ("transformers", "TrainingArguments.average_tokens_across_devices", "4.46.3", False),
        ("transformers", "TrainingArguments.average_tokens_across_devices", "4.57.6", True),
        ("transformers", "TrainingArguments.fsdp_config.version", "5.5.0", 1),
        ("transformers", "TrainingArguments.fsdp_config.version", "5.23.0", 2),
        ("transformers", "from_pretrained.dtype", "4.57.6", "float32"),
        ("transformers", "from_pretrained.dtype", "5.0.0", "auto"),
        ("transformers", "from_pretrained.dtype[bitsandbytes]", "4.57.6", "float16"),
        ("transformers", "from_pretrained.attn_implementation", "4.36", "sdpa"),
        ("transformers", "BitsAndBytesConfig.bnb_4bit_quant_type", "5.23.0", "fp4"),
        ("transformers", "BitsAndBytesConfig.bnb_4bit_use_double_quant", "5.23.0", False),
        ("transformers", "BitsAndBytesConfig.bnb_4bit_compute_dtype", "5.23.0", "float32"),
        ("transformers", "BitsAndBytesConfig.llm_int8_threshold", "5.23.0", 6.0),
        ("trl", "SFTConfig.max_seq_length", "0.9.6", 1024),
        ("trl", "SFTConfig.max_length", "0.15.2", "absent"),
        ("trl", "SFTConfig.max_length", "0.16.0", 1024),
        ("trl", "SFTConfig.gradient_checkpointing", "0.21.0", "absent"),
        ("trl", "SFTConfig.gradient_checkpointing", "0.22.0", True),
        ("trl", "SFTConfig.loss_type", "0.23.0", "nll"),
        ("trl", "SFTConfig.logits", "1.6.0", "full"),
        ("trl", "SFTConfig.logits", "1.7.0", "chunked"),
        ("trl", "SFTConfig.logits", "1.16.0", "tiled"),
        ("trl", "DPOConfig.max_length", "0.13.0", 512),
        ("trl", "DPOConfig.max_length", "0.14.0", 1024),
        ("trl", "DPOConfig.max_prompt_length", "0.13.0", 128),
        ("trl", "DPOConfig.max_prompt_length", "0.14.0", 512),
        ("trl", "GRPOConfig.num_generations", "0.14.0", 8),
        ("trl", "GRPOConfig.max_completion_length", "1.9.0", 256),
        ("trl", "GRPOConfig.max_completion_length", "1.16.0", 512),
        ("trl", "GRPOConfig.beta", "0.14.0", 0.04),
        ("trl", "GRPOConfig.beta", "0.19.0", 0.0),
        ("trl", "GRPOConfig.vllm_mode", "0.18.0", "server"),
        ("trl", "GRPOConfig.vllm_mode", "1.0.0", "colocate"),
        ("trl", "RewardConfig.max_length", "0.14.0", 1024),
        ("trl", "KTOConfig.max_length", "0.14.0", 1024),
        ("trl", "ModelConfig.dtype", "0.27.0", "float32"),
        ("trl", "ModelConfig.lora_r", "1.16.0", 16),
        ("trl", "ModelConfig.bnb_4bit_quant_type", "1.16.0", "nf4"),
        ("trl", "create_model_from_path.dtype", "0.25.0", None),
        ("trl", "create_model_from_path.dtype", "0.26.0", "auto"),
        ("trl", "create_model_from_path.dtype", "1.16.0", "float32"),
        ("peft", "LoraConfig.r", "0.21.2", 8),
        ("peft", "LoraConfig.lora_alpha", "0.21.2", 8),
        ("peft", "LoraConfig.lora_dropout", "0.21.2", 0.0),
        ("peft", "get_peft_model.autocast_adapter_dtype", "0.21.2", True),
        ("peft", "get_peft_model.autocast_adapter_dtype", "0.11.1", False),
        ("accelerate", "fsdp_config.fsdp_version", "1.15.0", 1),
        ("accelerate", "deepspeed_config.zero_stage", "1.15.0", 2),
        ("deepspeed", "zero_optimization.stage", "0.19.8", 0),
        ("deepspeed", "zero_optimization.reduce_bucket_size", "0.19.8", 500_000_000),
        ("deepspeed", "zero_optimization.stage3_prefetch_bucket_size", "0.19.8", 50_000_000),
        ("deepspeed", "zero_optimization.stage3_param_persistence_threshold", "0.19.8", 100_000),
        ("deepspeed", "zero_optimization.sub_group_size", "0.19.8", 1_000_000_000),
        ("deepspeed", "zero_optimization.contiguous_gradients", "0.19.8", True),
        ("deepspeed", "zero_optimization.overlap_comm", "0.19.8", None),
        ("deepspeed", "steps_per_print", "0.15.1", 10),
        ("deepspeed", "steps_per_print", "0.15.2", None),
        ("deepspeed", "nothing.of.the.kind", "0.19.8", "absent"),
        ("nolib", "key", "1.0", "absent"),
    ],
)
def test_default(library, key, version, expected):
    found = value(library, key, version)
    assert found == expected
    assert type(found) is type(expected)


def test_optim_hangs_on_torch():
    key = "TrainingArguments.optim"
    assert value("transformers", key, "5.23.0", Libraries(torch=(2, 7, 1))) == "adamw_torch"
    assert value("transformers", key, "5.23.0", Libraries(torch=(2, 8))) == "adamw_torch_fused"
    assert value("transformers", key, "4.46.3", Libraries(torch=(2, 8))) == "adamw_torch"


def test_a_default_names_its_source():
    assert default("peft", "LoraConfig.target_modules[llama]", (0, 21, 2)) == Default(
        "peft", "LoraConfig.target_modules[llama]", ("q_proj", "v_proj"), "0", "peft 0.7 utils/constants.py", ""
    )


def test_inherited_defaults():
    assert effective_default("SFTConfig", "per_device_train_batch_size").library == "transformers"
    assert effective_default("SFTConfig", "bf16").value is True
    assert effective_default("SFTConfig", "bf16", Libraries(trl=(0, 18, 0))).value is False
    assert effective_default("Seq2SeqTrainingArguments", "fp16").value is False
    assert effective_default("SFTConfig", "no_such_key") is None
    assert effective_default("NoSuchConfig", "fp16") is None


def test_lora_targets():
    assert lora_targets("gpt2") == ("c_attn",)
    assert lora_targets("phi") == ("q_proj", "v_proj", "fc1", "fc2")
    assert lora_targets("phi3") is None
    assert lora_targets("qwen3", (0, 9, 0)) is None
    assert lora_targets("qwen3") == ("q_proj", "v_proj")
    assert isinstance(lora_targets("gemma4"), str)


def test_requirements_of_the_table_can_be_read():
    for row in lines("defaults.tsv"):
        satisfies(row[4], Libraries())
    with pytest.raises(ValueError, match="not a requirement"):
        satisfies("torch~2", Libraries())


def test_versions():
    assert version_of("2.13.0+cpu") == (2, 13, 0)
    assert version_of("5.0.0rc1") == (5, 0, 0)
    assert version_of("main") == ()
    assert at_least((5,), (5, 0, 0))
    assert not at_least((4, 57, 6), (5,))


def test_keys_by_version():
    assert "evaluation_strategy" in keys("TrainingArguments", (4, 36, 2))
    assert "eval_strategy" not in keys("TrainingArguments", (4, 36, 2))
    assert "evaluation_strategy" not in keys("TrainingArguments", (5, 23, 0))
    assert "activation_checkpointing" in keys("TrainingArguments", (5, 23, 0))
    assert "max_seq_length" in keys("SFTConfig", (0, 19, 1))
    assert "max_seq_length" not in keys("SFTConfig", (0, 20, 0))
    assert keys("NoSuchConfig", (1,)) == frozenset()


def test_accepted_keys_include_the_inherited_ones():
    accepted = accepted_keys("SFTConfig")
    assert {"packing", "max_length", "bf16", "per_device_train_batch_size"} <= accepted
    assert {"predict_with_generate", "fp16"} <= accepted_keys("Seq2SeqTrainingArguments")
    assert "target_modules" in accepted_keys("LoraConfig")
    assert {"load_in_4bit", "bnb_4bit_quant_type"} <= accepted_keys("BitsAndBytesConfig")


def test_key_histories():
    old = key_history("TrainingArguments", "evaluation_strategy")
    assert (old.since, old.renamed_to) == ("", "eval_strategy")
    assert old.exists_in((4, 40)) and not old.exists_in((5, 0))
    assert key_history("SFTConfig", "gradient_accumulation_steps").vocabulary == "TrainingArguments"
    assert key_history("SFTConfig", "max_seq_length").until == "0.20"
    assert key_history("SFTConfig", "max_sequence_len") is None


def test_deepspeed_keys():
    assert "zero_optimization.stage" in keys("deepspeed", (0, 19, 8))
    assert "amp" in keys("deepspeed", (0, 19, 7))
    assert "amp" not in keys("deepspeed", (0, 19, 8))
    assert key_history("deepspeed", "amp").until == "0.19.8"
    assert find_deepspeed_key("zero_optimization.stage").type.startswith("enum")
    assert find_deepspeed_key("zero_optimization.stag") is None


def test_nearest():
    assert nearest("per_device_train_batchsize", accepted_keys("TrainingArguments"))[0] == "per_device_train_batch_size"
    assert nearest("Gradient_Checkpoint", ["gradient_checkpointing", "bf16"]) == ("gradient_checkpointing",)
    assert nearest("qqq", ["bf16"]) == ()

"""llm-foundry's files, with variables and without, alone and in an mcli run."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.reading import fact, line, model, remarks, says, sheet
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.writing import read_data
from vramlint.text import Document
from vramlint.values import Table

_PATH, _TEXT = SAMPLES["llm-foundry"]

_LORA = """\
tokenizer_name: meta-llama/Llama-2-7b-hf
max_seq_len: 2048
model:
  name: hf_causal_lm
  pretrained_model_name_or_path: ${tokenizer_name}
  pretrained: true
  use_flash_attention_2: true
  peft_config:
    peft_type: LORA
    r: 64
    lora_alpha: 128
    target_modules: [q_proj, v_proj]
train_loader:
  name: finetuning
  dataset:
    packing_ratio: auto
optimizer:
  name: decoupled_lionw
device_train_microbatch_size: auto
global_train_batch_size: 64
"""


def test_an_mpt_by_its_sizes():
    found = sheet("llm-foundry", _TEXT, _PATH)
    assert says(found, "objective", "model", "layers", "hidden_size", "intermediate_size", "vocabulary_size") == {
        "objective": "pretrain",
        "model": "mpt_causal_lm",
        "layers": 6,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "vocabulary_size": 50368,
    }
    assert says(found, "fsdp", "fsdp_mixed_precision", "activation_checkpointing", "micro_batch_size", "precision") == {
        "fsdp": "full_shard",
        "fsdp_mixed_precision": "PURE",
        "activation_checkpointing": False,
        "micro_batch_size": 8,
        "precision": "bf16-mixed",
    }
    assert model(found)["model_type"] == "mpt"
    assert fact(found, "gradient_accumulation_steps").origin is Origin.UNKNOWN
    assert remarks(found) == []


def test_an_interpolated_length_says_where_it_is_written_and_where_it_is_used():
    length = fact(sheet("llm-foundry", _TEXT, _PATH), "sequence_length")
    assert length.value == 1024
    assert length.place is not None
    assert length.place.span.line == 2
    assert {place.span.line for place in length.also} >= {4, 12}


def test_adapters_in_a_file_of_the_older_form():
    found = sheet("llm-foundry", _LORA)
    assert says(
        found, "model", "tuning", "lora_r", "lora_alpha", "lora_target_modules", "objective", "packing", "load_dtype"
    ) == {
        "model": "meta-llama/Llama-2-7b-hf",
        "tuning": "lora",
        "lora_r": 64,
        "lora_alpha": 128,
        "lora_target_modules": ("q_proj", "v_proj"),
        "objective": "sft",
        "packing": True,
        "load_dtype": "float32",
    }
    assert line(found, "model") == 1
    assert says(found, "attention_implementation", "precision", "activation_checkpointing") == {
        "attention_implementation": "flash_attention_2",
        "precision": "bf16-mixed",
        "activation_checkpointing": False,
    }


@pytest.mark.parametrize(("gpus", "sizes"), [(8, {1, 8}), (None, {1, 64})])
def test_an_automatic_micro_batch_is_a_range(gpus, sizes):
    root = read_data(Document.of("run.yaml", _LORA)).root
    assert isinstance(root, Table)
    around = (Fact("world_size", (Candidate(gpus),), Origin.WRITTEN),) if gpus else ()
    found = read_config(framework_of("llm-foundry"), "run.yaml", root, around=around)
    assert {item.value for item in fact(found, "micro_batch_size").candidates} == sizes


def test_micro_batches_of_a_known_number_of_gpus():
    root = read_data(Document.of(_PATH, _TEXT)).root
    assert isinstance(root, Table)
    around = (Fact("world_size", (Candidate(2),), Origin.WRITTEN),)
    found = read_config(framework_of("llm-foundry"), _PATH, root, around=around)
    assert says(found, "gradient_accumulation_steps", "parallelism") == {
        "gradient_accumulation_steps": 4,
        "parallelism": "fsdp",
    }


def test_the_parameters_of_an_mcli_run():
    inner = "".join(f"  {row}\n" for row in _LORA.splitlines())
    found = sheet("llm-foundry", f"name: try\ncommand: composer train/train.py\nparameters:\n{inner}")
    assert says(found, "model", "sequence_length") == {"model": "meta-llama/Llama-2-7b-hf", "sequence_length": 2048}


def test_fewer_heads_of_keys_and_experts():
    grouped = _TEXT.replace("attn_impl: flash", "attn_impl: torch\n    kv_n_heads: 2")
    found = sheet("llm-foundry", grouped)
    assert says(found, "key_value_heads", "attention_implementation") == {
        "key_value_heads": 2,
        "attention_implementation": "eager",
    }
    assert model(found)["model_type"] == "llama"
    experts = _TEXT.replace("  attn_config:", "  ffn_config:\n    moe_num_experts: 4\n    moe_top_k: 2\n  attn_config:")
    found = sheet("llm-foundry", experts)
    assert says(found, "experts", "experts_per_token") == {"experts": 4, "experts_per_token": 2}


def test_a_misspelt_key():
    found = sheet("llm-foundry", "device_train_microbatch_sizes: 4\nmy_own_variable: 3\n")
    assert remarks(found) == [("unknown-key", "device_train_microbatch_sizes", "device_train_microbatch_size")]


def test_a_configuration_that_evaluates():
    found = sheet("llm-foundry", "models:\n- model_name: a/b\nmax_seq_len: 1024\ndevice_eval_batch_size: 4\n")
    assert says(found, "run_kind") == {"run_kind": "inference"}
    assert remarks(found) == []


def test_an_automatic_micro_batch_is_said_to_adapt():
    assert says(sheet("llm-foundry", _LORA), "batch_adapts") == {"batch_adapts": True}
    fixed = _LORA.replace("device_train_microbatch_size: auto", "device_train_microbatch_size: 2")
    assert sheet("llm-foundry", fixed).get("batch_adapts") is None


_MPT = """\
max_seq_len: 2048
model:
  name: mpt_causal_lm
  d_model: 768
  n_heads: 12
  n_layers: 12
  max_seq_len: 2048
  vocab_size: 50368
  attn_config:
    attn_impl: flash
optimizer:
  name: decoupled_adamw
global_train_batch_size: 16
device_train_microbatch_size: 8
precision: amp_bf16
"""


def test_its_own_flash_attention_writes_no_scores_out(explained):
    """12 layers of 8 · 12 · 2048² probabilities in bfloat16 are 9 GiB."""
    flash = explained.job("flash.yaml", _MPT)["estimate"]["low"]
    eager = explained.job("torch.yaml", _MPT.replace("flash", "torch"))["estimate"]["low"]
    assert eager["allocated_bytes"] - flash["allocated_bytes"] > 12 * 8 * 12 * 2048**2 * 2


def test_the_bert_of_composers_examples():
    text = """\
    model:
      name: hf_bert
      model_config: {num_hidden_layers: 12, num_attention_heads: 8}
    max_seq_len: 128
    device_train_microbatch_size: 16
    device_eval_microbatch_size: 64
    """
    found = sheet("llm-foundry", text)
    expected = {"layers": 12, "attention_heads": 8, "eval_micro_batch_size": 64}
    assert says(found, *expected) == expected


def test_composer_reduces_the_gradients_of_every_micro_batch():
    text = "global_train_batch_size: 64\ndevice_train_microbatch_size: 1\n"
    sharded = sheet("llm-foundry", f"{text}fsdp_config: {{sharding_strategy: FULL_SHARD}}\n")
    assert says(sharded, "sync_each_batch") == {"sync_each_batch": True}
    assert sheet("llm-foundry", text).get("sync_each_batch") is None


def test_an_mpt_of_the_hub_takes_the_kernel_that_the_file_lays_over_its_own(explained):
    text = """\
    max_seq_len: 2048
    device_train_microbatch_size: 4
    global_train_batch_size: 4
    model:
      name: hf_causal_lm
      pretrained_model_name_or_path: mosaicml/mpt-7b
      config_overrides:
        attn_config: {attn_impl: IMPL}
    train_loader: {name: finetuning}
    """
    jobs = (explained.job("mpt.yaml", text.replace("IMPL", word)) for word in ("torch", "triton"))
    eager, fused = (job["estimate"]["high"]["allocated_bytes"] for job in jobs)
    assert fused < eager

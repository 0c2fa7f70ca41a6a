"""litgpt: YAML for jsonargparse, the subcommand on the command line, and the network as litgpt itself describes it."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.explained import line, origin, value, values
from tests.surfaces.frameworks.reading import model, remarks, says, sheet
from vramlint.facts import Origin
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.writing import write_facts
from vramlint.text import Document, apply_edits

_LORA = """\
checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B
precision: bf16-true
devices: 1
lora_r: 16
lora_alpha: 32
lora_dropout: 0.1
lora_query: true
lora_value: true
lora_projection: true
train:
  global_batch_size: 8
  micro_batch_size: 2
  max_seq_length: 1024
"""
_QUANTIZED = _LORA.replace("devices: 1", "devices: 1\nquantize: bnb.nf4-dq")
_FULL = """\
checkpoint_dir: checkpoints/google/gemma-2b
precision: bf16-true
devices: 4
train:
  global_batch_size: 32
  micro_batch_size: 2
"""
_PRETRAINING = """\
model_name: stories15M
model_config:
  name: stories15M
  block_size: 256
  padded_vocab_size: 32000
  n_layer: 6
  n_head: 6
  n_embd: 288
  rotary_percentage: 1.0
  parallel_residual: false
  bias: false
  norm_class_name: RMSNorm
  mlp_class_name: LLaMAMLP
  intermediate_size: 768
precision: bf16-mixed
train:
  micro_batch_size: 16
  tie_embeddings: true
devices: auto
"""


def test_lora_is_told_by_its_keys(explained):
    job = explained.job("lora.yaml", _LORA)

    assert values(
        job, "model", "model_type", "objective", "tuning", "lora_r", "lora_alpha", "lora_dropout",
        "lora_target_modules",
        "micro_batch_size", "gradient_accumulation_steps", "global_batch_size", "sequence_length", "load_dtype",
        "precision", "trainable_dtype", "optimizer", "world_size", "parallelism", "activation_checkpointing",
        "max_grad_norm", "attention_implementation", "eval_micro_batch_size",
    ) == {
        "model": "meta-llama/Llama-3.2-1B", "model_type": "llama", "objective": "sft", "tuning": "lora",
        "lora_r": 16, "lora_alpha": 32,
        "lora_dropout": 0.1, "lora_target_modules": ["query", "value", "projection"], "micro_batch_size": 2,
        "gradient_accumulation_steps": 4, "global_batch_size": 8, "sequence_length": 1024, "load_dtype": "bfloat16",
        "precision": "bf16-pure", "trainable_dtype": "bfloat16", "optimizer": "adamw_torch", "world_size": 1,
        "parallelism": "none", "activation_checkpointing": False, "max_grad_norm": 0,
        "attention_implementation": "sdpa", "eval_micro_batch_size": 2,
    }  # fmt: skip
    assert (line(job, "tuning"), line(job, "lora_target_modules"), line(job, "load_dtype")) == (4, 7, 2)
    assert job["status"] == "checked"
    assert job["estimate"]["low"] == job["estimate"]["high"]


def test_a_quantized_base():
    found = sheet("litgpt", _QUANTIZED)

    assert says(
        found, "tuning", "quantization_bits", "quantization_type", "double_quantization", "quantization_compute_dtype"
    ) == {
        "tuning": "qlora",
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "double_quantization": True,
        "quantization_compute_dtype": "bfloat16",
    }
    assert model(found)["stable_embedding"] is True


def test_releases_differ_in_what_they_compute():
    old = sheet("litgpt", _QUANTIZED, release="0.4.5")

    assert (model(old)["stable_embedding"], model(old)["norm_widens_weights"]) == (False, False)
    assert says(sheet("litgpt", _LORA.replace("devices: 1", "devices: 2")), "fsdp_version") == {"fsdp_version": 2}
    several = sheet("litgpt", _LORA.replace("devices: 1", "devices: 2"), release="0.5.10")
    assert says(several, "fsdp_version") == {"fsdp_version": 1}


def test_several_devices_share_the_model_and_recompute_its_blocks():
    found = sheet("litgpt", _FULL)

    assert says(
        found, "world_size", "parallelism", "fsdp", "fsdp_wrap_class", "activation_checkpointing",
        "gradient_accumulation_steps",
    ) == {
        "world_size": 4, "parallelism": "fsdp", "fsdp": "full_shard", "fsdp_wrap_class": "Block",
        "activation_checkpointing": True, "gradient_accumulation_steps": 4,
    }  # fmt: skip


def test_without_keys_of_lora_the_subcommand_is_assumed():
    found = sheet("litgpt", _FULL)

    assert {name: (item.value, item.origin) for name in ("tuning", "objective") if (item := found.get(name))} == {
        "tuning": ("full", Origin.ASSUMED),
        "objective": ("sft", Origin.ASSUMED),
    }


def test_pretraining_with_a_model_of_its_own(explained):
    job = explained.job("pretrain.yaml", _PRETRAINING)

    assert values(
        job, "objective", "layers", "attention_heads", "hidden_size", "vocabulary_size", "intermediate_size",
        "tied_embeddings", "sequence_length", "global_batch_size", "precision", "load_dtype", "torch_compile",
        "max_grad_norm", "full_logits", "activation_checkpointing",
    ) == {
        "objective": "pretrain", "layers": 6, "attention_heads": 6, "hidden_size": 288, "vocabulary_size": 32000,
        "intermediate_size": 768, "tied_embeddings": True, "sequence_length": 256, "global_batch_size": 512,
        "precision": "bf16-mixed", "load_dtype": "float32", "torch_compile": True, "max_grad_norm": 1.0,
        "full_logits": True, "activation_checkpointing": False,
    }  # fmt: skip
    assert line(job, "layers") == 6
    assert origin(job, "world_size") == "assumed"
    assert origin(job, "global_batch_size") == "default"
    assert not {"lora_r", "lora_alpha", "lora_dropout"} & {fact["name"] for fact in job["facts"]}


def test_precision_is_mixed_as_the_gpu_can_unless_said(explained):
    text = _LORA.replace("precision: bf16-true\n", "")
    unsaid = explained.job("lora.yaml", text)
    said = explained.job("lora.yaml", f"# vramlint: gpu=a10g\n{text}")

    assert values(unsaid, "precision", "load_dtype") == {"precision": None, "load_dtype": "float32"}
    assert values(said, "precision", "load_dtype") == {"precision": "bf16-mixed", "load_dtype": "float32"}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("litgpt finetune_lora google/gemma-2b", ("google/gemma-2b", "lora", 1, 16)),
        ("litgpt finetune google/gemma-2b --train.micro_batch_size 4", ("google/gemma-2b", "lora", 4, 4)),
        ("litgpt finetune full --checkpoint_dir checkpoints/google/gemma-2b", ("google/gemma-2b", "full", 1, 16)),
        ("python litgpt/finetune/full.py --checkpoint_dir google/gemma-2b", ("google/gemma-2b", "full", 1, 16)),
        ("litgpt pretrain pythia-160m --devices 1", ("pythia-160m", "full", 4, 128)),
    ],
)
def test_the_subcommand_and_the_words_behind_it(explained, command, expected):
    job = explained.job("run.sh", f"{command}\n")

    found = tuple(value(job, name) for name in ("model", "tuning", "micro_batch_size", "gradient_accumulation_steps"))
    assert found == expected


def test_flags_lie_over_the_file(explained):
    explained.write("lora.yaml", _LORA)
    job = explained.job("run.sh", "litgpt finetune_lora --config lora.yaml --train.micro_batch_size 1 --devices 2\n")

    assert values(job, "micro_batch_size", "world_size", "parallelism", "gradient_accumulation_steps") == {
        "micro_batch_size": 1,
        "world_size": 2,
        "parallelism": "fsdp",
        "gradient_accumulation_steps": 4,
    }


def test_devices_of_the_file_hold_under_a_command_without_them(explained):
    explained.write("full.yaml", _FULL)
    job = explained.job("run.sh", "litgpt finetune_full --config full.yaml\n")

    assert values(job, "world_size", "tuning") == {"world_size": 4, "tuning": "full"}
    assert origin(job, "tuning") == "derived"


def test_unknown_and_removed_keys():
    text = _LORA + "  beta1: 0.9\n  micro_batchsize: 2\n  max_seq_len: 4\nlora_rank: 3\n"

    assert remarks(sheet("litgpt", text, release="0.5.0")) == [
        ("removed-key", "train.beta1", "optimizer.init_args.betas"),
        ("unknown-key", "train.micro_batchsize", "train.micro_batch_size"),
        ("unknown-key", "train.max_seq_len", "train.max_seq_length"),
        ("unknown-key", "lora_rank", "lora_r"),
    ]
    assert remarks(sheet("litgpt", _LORA + "  beta1: 0.9\n", release="0.3.1")) == []


def test_a_smaller_batch_is_written_without_the_accumulation_that_follows():
    document = Document.of("lora.yaml", _LORA)

    said = write_facts(
        framework_of("litgpt"),
        {"micro_batch_size": 1, "gradient_accumulation_steps": 8},
        sheet("litgpt", _LORA, "lora.yaml").facts,
        {"lora.yaml": document},
    )

    assert said is not None
    assert said.description == "train.micro_batch_size: 1"
    assert apply_edits(document, said.edits) == _LORA.replace("micro_batch_size: 2", "micro_batch_size: 1")

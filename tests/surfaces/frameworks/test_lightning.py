"""LightningCLI's YAML: what the Trainer is given, and usual names among the arguments of module and data."""

from __future__ import annotations

from tests.surfaces.frameworks.explained import value, values
from tests.surfaces.frameworks.reading import line, remarks, says, sheet

_FIT = """\
# lightning.pytorch==2.5.0
seed_everything: 7
trainer:
  accelerator: gpu
  strategy:
    class_path: lightning.pytorch.strategies.FSDPStrategy
    init_args:
      sharding_strategy: SHARD_GRAD_OP
  devices: 4
  num_nodes: 2
  precision: bf16-true
  accumulate_grad_batches: 8
  gradient_clip_val: 0.5
  max_epochs: 3
model:
  class_path: project.Module
  init_args:
    model_name_or_path: openai-community/gpt2
    lora_r: 16
    optimizer:
      class_path: torch.optim.AdamW
      init_args:
        weight_decay: 0.1
data:
  class_path: project.Data
  init_args:
    batch_size: 2
    max_length: 512
"""


def test_the_trainer_and_what_module_and_data_are_given(explained):
    job = explained.job("fit.yaml", _FIT)

    assert job["vocabulary"]["name"] == "lightning"
    assert values(
        job, "model", "tuning", "lora_r", "load_dtype", "precision", "micro_batch_size", "gradient_accumulation_steps",
        "sequence_length", "max_grad_norm", "world_size", "nodes", "gpus_per_node", "parallelism", "fsdp",
        "optimizer", "weight_decay", "loop",
    ) == {
        "model": "openai-community/gpt2", "tuning": "lora", "lora_r": 16, "load_dtype": "bfloat16",
        "precision": "bf16-pure", "micro_batch_size": 2, "gradient_accumulation_steps": 8, "sequence_length": 512,
        "max_grad_norm": 0.5, "world_size": 8, "nodes": 2, "gpus_per_node": 4, "parallelism": "fsdp",
        "fsdp": "shard_grad_op", "optimizer": "adamw_torch", "weight_decay": 0.1, "loop": "lightning",
    }  # fmt: skip
    assert value(job, "objective") is None


def test_values_stand_where_they_are_written():
    found = sheet("lightning", _FIT)

    assert [line(found, name) for name in ("load_dtype", "parallelism", "fsdp", "world_size", "optimizer")] == [
        11,
        6,
        8,
        9,
        21,
    ]
    assert {fact.via for fact in found.facts if fact.place is not None} <= {"config-file", "code"}


def test_settings_of_one_subcommand_of_several():
    nested = "fit:\n" + "".join(f"  {text}\n" for text in _FIT.splitlines())

    assert says(sheet("lightning", nested), "micro_batch_size", "gradient_accumulation_steps") == {
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 8,
    }


def test_quantization_by_a_plugin():
    text = """\
    trainer:
      max_epochs: 1
      plugins:
        - class_path: lightning.pytorch.plugins.BitsandbytesPrecision
          init_args: {mode: nf4-dq, dtype: torch.bfloat16}
    """

    assert says(sheet("lightning", text), "quantization_bits", "double_quantization", "load_dtype") == {
        "quantization_bits": 4,
        "double_quantization": True,
        "load_dtype": "bfloat16",
    }


def test_without_anything_said_the_trainer_computes_in_32_bits_on_every_gpu():
    found = sheet("lightning", "trainer:\n  max_epochs: 1\nmodel:\n  class_path: project.Module\n")

    assert says(found, "bf16", "fp16", "gradient_accumulation_steps", "max_grad_norm") == {
        "bf16": False,
        "fp16": False,
        "gradient_accumulation_steps": 1,
        "max_grad_norm": 0,
    }
    assert says(found, "gpus_per_node", "model", "tuning") == {"gpus_per_node": None, "model": None, "tuning": None}


def test_keys_that_releases_took_away_and_near_misses():
    text = _FIT.replace("  devices: 4", "  gpus: 4\n  acumulate_grad_batches: 2")

    assert remarks(sheet("lightning", text, release="2.5.0")) == [
        ("removed-key", "trainer.gpus", "trainer.devices"),
        ("unknown-key", "trainer.acumulate_grad_batches", "trainer.accumulate_grad_batches"),
    ]
    assert remarks(sheet("lightning", _FIT.replace("devices", "gpus"), release="1.9.5")) == []

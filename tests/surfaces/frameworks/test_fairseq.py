"""fairseq: Hydra groups with plain keys, batches in sequences or in tokens."""

from __future__ import annotations

from tests.surfaces.frameworks.explained import line, value, values
from tests.surfaces.frameworks.reading import remarks, says, sheet

_ROBERTA = """\
# @package _group_
common:
  fp16: true
task:
  _name: masked_lm
  tokens_per_sample: 512
dataset:
  batch_size: 16
distributed_training:
  distributed_world_size: 8
  ddp_backend: legacy_ddp
optimizer:
  _name: adam
  weight_decay: 0.01
optimization:
  clip_norm: 0.5
  update_freq: [4]
model:
  _name: roberta
  encoder_layers: 12
  checkpoint_activations: true
"""


def test_a_pretraining(explained):
    job = explained.job("base.yaml", _ROBERTA)

    assert job["vocabulary"]["name"] == "fairseq"
    assert values(
        job, "objective", "tuning", "precision", "load_dtype", "micro_batch_size", "sequence_length",
        "gradient_accumulation_steps", "max_grad_norm", "optimizer", "weight_decay", "world_size", "parallelism",
        "activation_checkpointing", "layers",
    ) == {
        "objective": "mlm", "tuning": "full", "precision": "fp16-mixed", "load_dtype": "float32",
        "micro_batch_size": 16, "sequence_length": 512, "gradient_accumulation_steps": 4, "max_grad_norm": 0.5,
        "optimizer": "adamw_torch", "weight_decay": 0.01, "world_size": 8, "parallelism": "ddp",
        "activation_checkpointing": True, "layers": 12,
    }  # fmt: skip
    assert line(job, "gradient_accumulation_steps") == 17
    assert job["status"] == "unresolved"


def test_batches_that_tokens_bound_have_no_known_size():
    found = sheet("fairseq", _ROBERTA.replace("batch_size: 16", "max_tokens: 4096"))

    said = found.get("micro_batch_size")
    assert said is not None
    assert (said.candidates, said.reason) == ((), "batches hold up to 4096 tokens")


def test_precision_without_masters_and_by_autocast():
    lean = sheet("fairseq", _ROBERTA.replace("fp16: true", "memory_efficient_fp16: true"))

    assert says(lean, "fp16", "load_dtype", "precision") == {
        "fp16": False,
        "load_dtype": "float16",
        "precision": "fp16-pure",
    }
    assert says(sheet("fairseq", _ROBERTA.replace("fp16: true", "amp: true")), "fp16", "load_dtype") == {
        "fp16": True,
        "load_dtype": "float32",
    }


def test_overrides_of_the_command_line(explained):
    explained.write("recipes/base.yaml", _ROBERTA)
    job = explained.job(
        "run.sh",
        "python -m fairseq_cli.hydra_train --config-dir recipes --config-name base dataset.batch_size=4\n",
    )

    assert values(job, "micro_batch_size", "sequence_length") == {"micro_batch_size": 4, "sequence_length": 512}
    assert value(job, "objective") == "mlm"


def test_near_misses():
    assert remarks(sheet("fairseq", _ROBERTA.replace("clip_norm", "clip_nrom"))) == [
        ("unknown-key", "optimization.clip_nrom", "optimization.clip_norm")
    ]

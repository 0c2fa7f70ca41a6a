"""Configurations with sections and keys of somebody's own."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.surfaces.frameworks.reading import fact, says, sheet
from tests.surfaces.frameworks.samples import SAMPLES
from vramlint.facts import Origin, Sheet
from vramlint.readers.yaml import read_yaml
from vramlint.surfaces.frameworks import framework_of
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.recognising import recognise
from vramlint.text import Document
from vramlint.values import Table

NESTED = """\
experiment: first try
model:
  name: meta-llama/Llama-2-7b-hf
  max_length: 2048
train:
  qlora:
    enabled: true
    r: 16
    alpha: 32
    dropout: 0.1
    quantization:
      load_in_4bit: true
      bnb_4bit_quant_type: nf4
  hyperparameters:
    batch_size: 2
    gradient_accumulation_steps: 16
    learning_rate: 2e-4
    epochs: 3
  optimizer:
    type: AdamW
evaluation:
  batch_size: 8
inference:
  max_length: 256
  model_path: outputs/best
"""


def table_of(text: str) -> Table:
    root = read_yaml(Document.of("train.yaml", text)).root
    assert isinstance(root, Table)
    return root


def sheet_of(text: str) -> Sheet:
    return read_config(framework_of("custom-yaml"), "train.yaml", table_of(text))


def test_what_refers_to_other_keys() -> None:
    referring = "model_name: ${base}-7B\nbatch_size: ${train.size}\nlora_r: ${oc.env:RANK}\n"
    sheet = sheet_of(f"{referring}base: Qwen/Qwen2.5\ntrain:\n  size: 4\n")

    assert fact(sheet, "model").value == "Qwen/Qwen2.5-7B"
    size = fact(sheet, "micro_batch_size")
    assert size.value == 4
    assert size.place is not None and size.place.span.line == 6
    assert fact(sheet, "lora_r").origin is Origin.UNKNOWN


def kind(text: str) -> str:
    found = recognise("train.yaml", table_of(text))
    return found.kind if found else ""


def test_well_known_names_wherever_they_stand() -> None:
    sheet = sheet_of(NESTED)
    written = {fact.name: fact.value for fact in sheet.facts if fact.origin is Origin.WRITTEN}
    assert written == {
        "model": "meta-llama/Llama-2-7b-hf",
        "sequence_length": 2048,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "micro_batch_size": 2,
        "eval_micro_batch_size": 8,
        "gradient_accumulation_steps": 16,
        "optimizer": "AdamW",
        "tuning": "qlora",
    }
    rank = sheet.get("lora_r")
    assert rank is not None
    assert rank.place is not None
    assert (rank.key, rank.place.span.line) == ("train.qlora.r", 8)


def test_nothing_is_unknown_and_what_is_not_written_is_left_open() -> None:
    sheet = sheet_of(NESTED)
    assert sheet.remarks == ()
    for name in ("loop", "bf16", "activation_checkpointing", "lora_target_modules", "load_dtype"):
        fact = sheet.get(name)
        assert fact is not None
        assert fact.origin is Origin.UNKNOWN
    objective = sheet.get("objective")
    assert objective is not None
    assert objective.origin is Origin.ASSUMED


def test_adapters_that_are_switched_off() -> None:
    tuning = sheet_of(NESTED.replace("enabled: true", "enabled: false")).get("tuning")
    assert tuning is not None
    assert (tuning.value, tuning.key) == ("full", "train.qlora.enabled")


@pytest.mark.parametrize(
    ("line", "bf16", "fp16"),
    [
        ("mixed_precision: bf16", True, False),
        ("precision: 16-mixed", False, True),
        ("mixed_precision: 'no'", False, False),
    ],
)
def test_precision_in_a_word(line: str, bf16: bool, fp16: bool) -> None:
    facts = {fact.name: fact.value for fact in sheet_of(f"{NESTED}{line}\n").facts}
    assert (facts["bf16"], facts["fp16"]) == (bf16, fp16)


def test_the_method_by_a_key() -> None:
    objective = sheet_of(f"{NESTED}method: dpo\n").get("objective")
    assert objective is not None
    assert (objective.value, objective.origin) == ("dpo", Origin.WRITTEN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NESTED, "custom-yaml"),
        ("model_name: a/b\nmax_seq_length: 64\nper_device_train_batch_size: 1\nlora_r: 8\nlr: 1\n", "custom-yaml"),
        ("lora:\n  r: 16\n  alpha: 32\n  dropout: 0.1\n  target_modules: [q]\nload_in_4bit: true\n", "custom-yaml"),
        ("model: resnet50\nbatch_size: 256\nlr: 0.1\nepochs: 90\noptimizer: sgd\nweight_decay: 1e-4\n", ""),
        ("serving:\n  model:\n    model_path: out\n    max_length: 512\n    dtype: float16\n  learning_rate: 1\n", ""),
        ("services:\n  app:\n    image: x\n", ""),
    ],
)  # fmt: skip
def test_what_is_such_a_configuration(text: str, expected: str) -> None:
    assert kind(text) == expected


def test_gpus_of_all_nodes_the_whole_batch_and_how_is_tuned() -> None:
    found = sheet(
        "custom-yaml",
        """\
        slurm: {num_nodes: 2, gpus_per_node: 4}
        trainer:
          model_name_or_path: Qwen/Qwen2.5-0.5B
          finetuning_type: full
          lora_rank: 8
          effective_batch_size: 64
          enable_liger_kernel: false
          learning_rate: 1.0e-5
        """,
    )
    assert says(found, "world_size", "nodes", "gpus_per_node", "tuning", "global_batch_size") == {
        "world_size": 8,
        "nodes": 2,
        "gpus_per_node": 4,
        "tuning": "full",
        "global_batch_size": 64,
    }
    assert fact(found, "fused_loss").value is False


ARGUMENTS = """\
training:
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 8
  learning_rate: 2e-4
  bf16: true
  optim: paged_adamw_8bit
sft:
  max_seq_length: 2048
"""
BASE = """\
model:
  name: Qwen/Qwen2.5-1.5B-Instruct
  max_seq_length: 2048
quantization:
  load_in_4bit: true
  bnb_4bit_quant_type: nf4
  bnb_4bit_compute_dtype: bfloat16
"""


@pytest.mark.parametrize(
    ("text", "fact", "value"), [(ARGUMENTS, "precision", "bf16-mixed"), (BASE, "quantization_bits", 4)]
)
def test_one_file_of_several_says_its_part_of_a_run(text: str, fact: str, value: object) -> None:
    sheet = sheet_of(text)
    said, run = sheet.get(fact), sheet.get("run_kind")
    assert kind(text) == "custom-yaml"
    assert said is not None and run is not None
    assert (said.value, run.value) == (value, "data")


def test_what_a_run_is_called_says_nothing_of_it() -> None:
    text = """\
    train:
      model_path_or_name: meta-llama/Meta-Llama-3-8B
      wandb:
        config:
          model: llama3-8b
          batch_size: 128
      max_seq_len: 512
      training_args:
        per_device_train_batch_size: 1
        gradient_accumulation_steps: 16
        deepspeed: configs/ds_config.json
    """
    sheet = sheet_of(dedent(text))
    facts = {fact.name: fact.value for fact in sheet.facts}
    assert (facts["model"], facts["micro_batch_size"]) == ("meta-llama/Meta-Llama-3-8B", 1)
    assert [(link.kind, link.target) for link in sheet.links] == [("deepspeed", "configs/ds_config.json")]


def test_a_model_of_the_catalog_tells_training_of_a_language_model() -> None:
    text = "model_name: {}\ntrain:\n  global_batch_size: 16\n  micro_batch_size: 4\n"
    text += "optimizer:\n  name: adamw\n  lr: 1e-5\ntrainer:\n  max_epochs: 1\n"
    assert kind(text.format("openlm-research/open_llama_7b")) == "custom-yaml"
    assert kind(text.format("openlm-research/another")) == ""
    total = sheet_of(text.format("openlm-research/open_llama_7b")).get("global_batch_size")
    assert total is not None
    assert total.value == 16


def test_what_the_reading_program_decides_is_no_misfit(explained):
    """Nobody says how many GPUs there are and how the program shares the model among them."""
    path, text = SAMPLES["custom-yaml"]
    job = explained.job(path, text)
    assert {"loop", "parallelism"} <= set(job["unresolved"])

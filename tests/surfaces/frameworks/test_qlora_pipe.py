"""qlora-pipe's TOML."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.reading import fact, line, says, sheet
from vramlint.facts import Origin

RUN = """\
model = '/data2/models/Llama-2-7b-hf'
output_dir = '/data/runs'
lora_rank = 64
lora_alpha = 128
micro_batch_size_per_gpu = 1
batch_size_tokens = 5000
pipeline_stages = 2
gradient_accumulation_steps = 4
model_weight_dtype = 'bfloat16'
activation_checkpointing = 'unsloth'

[quantization.bnb]
load_in_4bit = true
bnb_4bit_compute_dtype = 'bfloat16'

[optimizer]
type = 'AdamW8bit'
lr = 5e-5

[[datasets]]
name = 'a'
sequence_len = 2048

[[datasets]]
name = 'b'
sequence_len = 4096
"""
TOML = "run.toml"


def test_what_a_file_says() -> None:
    found = sheet("qlora-pipe", RUN, TOML)
    assert says(
        found, "model", "tuning", "lora_r", "lora_alpha", "quantization_bits", "quantization_type", "optimizer",
        "pipeline_parallel", "tokens_per_batch", "sequence_length", "activation_checkpointing", "checkpointing_offload",
    ) == {
        "model": "Llama-2-7b-hf",
        "tuning": "qlora",
        "lora_r": 64,
        "lora_alpha": 128,
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "optimizer": "adamw_bnb_8bit",
        "pipeline_parallel": 2,
        "tokens_per_batch": 5000,
        "sequence_length": 4096,
        "activation_checkpointing": True,
        "checkpointing_offload": True,
    }  # fmt: skip
    assert line(found, "sequence_length") == 26
    assert found.remarks == ()


def test_defaults() -> None:
    found = sheet("qlora-pipe", RUN, TOML)
    for name, value in (("trainable_dtype", "float32"), ("lora_target_modules", "all-linear"), ("max_grad_norm", 1.0)):
        said = fact(found, name)
        assert (said.value, said.origin) == (value, Origin.DEFAULT)


def test_a_path_that_the_catalog_does_not_know_stays() -> None:
    assert fact(sheet("qlora-pipe", RUN.replace("Llama-2-7b-hf", "mine"), TOML), "model").value == "/data2/models/mine"


@pytest.mark.parametrize(
    ("old", "new", "name", "value"),
    [
        ("lora_rank = 64", "full_fine_tune = true", "tuning", "full"),
        ("[quantization.bnb]\nload_in_4bit = true", "[quantization.hqq]\nnbits = 3", "quantization_bits", 3),
        ("[optimizer]", "[rl]\nmethod = 'dpo'\n[optimizer]", "objective", "dpo"),
        ("'AdamW8bit'", "'adamw_kahan'", "optimizer", "adamw_kahan"),
    ],
)
def test_other_ways(old: str, new: str, name: str, value: object) -> None:
    assert fact(sheet("qlora-pipe", RUN.replace(old, new), TOML), name).value == value


def test_a_misspelt_key() -> None:
    (remark,) = sheet("qlora-pipe", "pipeline_stage = 2\n" + RUN, TOML).remarks
    assert (remark.subject, remark.suggestion) == ("pipeline_stage", "pipeline_stages")

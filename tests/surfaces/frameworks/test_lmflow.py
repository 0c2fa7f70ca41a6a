"""LMFlow's options."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.reading import fact, says, sheet

_FULL = """\
model_name_or_path: meta-llama/Llama-3.2-1B-Instruct
torch_dtype: bfloat16
block_size: 512
disable_group_texts: 1
per_device_train_batch_size: 1
"""


def test_full_tuning_without_a_switch():
    found = sheet("lmflow", _FULL)
    assert says(found, "tuning", "load_dtype", "sequence_length", "packing", "micro_batch_size") == {
        "tuning": "full",
        "load_dtype": "bfloat16",
        "sequence_length": 512,
        "packing": False,
        "micro_batch_size": 1,
    }
    assert found.get("lora_r") is None


@pytest.mark.parametrize("switch", ["use_lora", "use_dora"])
def test_adapters(switch: str):
    found = sheet("lmflow", f"{_FULL}{switch}: 1\nlora_r: 16\n")
    assert says(found, "tuning", "lora_r", "lora_alpha", "lora_dropout") == {
        "tuning": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
    }


def test_four_bits_compute_in_bfloat16():
    found = sheet("lmflow", _FULL + "use_qlora: 1\n")
    assert says(found, "tuning", "quantization_bits", "quantization_type", "quantization_compute_dtype") == {
        "tuning": "qlora",
        "quantization_bits": 4,
        "quantization_type": "nf4",
        "quantization_compute_dtype": "bfloat16",
    }


def test_grouped_texts_fill_their_blocks():
    assert fact(sheet("lmflow", _FULL.replace("texts: 1", "texts: 0")), "packing").value is True

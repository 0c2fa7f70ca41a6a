"""Names that say how a checkpoint is quantized."""

from __future__ import annotations

import pytest
from msgspec.structs import astuple

from vramlint.resolve.context import Context
from vramlint.resolve.network import find_network
from vramlint.resolve.quantized_names import quantized_name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", ("Qwen/Qwen2.5-7B-Instruct", "awq", 4)),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", ("Qwen/Qwen2.5-7B-Instruct", "gptq", 8)),
        ("Qwen/Qwen-7B-Chat-Int4", ("Qwen/Qwen-7B-Chat", "gptq", 4)),
        ("TheBloke/Llama-2-7B-GPTQ", ("TheBloke/Llama-2-7B", "gptq", 4)),
        ("unsloth/gemma-3-4b-it-unsloth-bnb-4bit", ("unsloth/gemma-3-4b-it", "nf4", 4)),
        ("meta-llama/Llama-3.1-8B", None),
        ("owner/Interesting-4bits", None),
    ],
)
def test_what_a_name_says(name, found):
    named = quantized_name(name)
    assert (None if named is None else astuple(named)) == found


def test_the_base_of_the_catalog_is_taken():
    network = find_network("Qwen/Qwen2.5-7B-Instruct-AWQ", "train.py", Context())

    assert network is not None
    assert (network.model_type, network.quantization) == ("qwen2", "awq")
    assert network.config["quantization_config"] == {"bits": 4, "group_size": 128}
    assert "quantized as its name says" in network.source


def test_a_base_that_nobody_knows_stays_unknown():
    assert find_network("nobody/knows-this-AWQ", "train.py", Context()) is None

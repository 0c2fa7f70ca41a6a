"""Folders on a machine's disk that are models of the catalog by their names."""

from __future__ import annotations

import pytest

from vramlint.resolve.context import Context
from vramlint.resolve.network import find_network


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "/data/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots/a09a35458c702b33eeacc393d103063234e8bc28",
            "Qwen/Qwen2.5-7B-Instruct",
        ),
        ("~/.cache/huggingface/hub/models--openai-community--gpt2", "openai-community/gpt2"),
        ("/root/autodl-tmp/Qwen2.5-7B-Instruct-HF/", "Qwen/Qwen2.5-7B-Instruct"),
        ("checkpoints/meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("~/.cache/modelscope/hub/Qwen/Qwen2___5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen2.5-7B-Instruct-mcore", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_the_catalog_knows_the_folder(path, source):
    network = find_network(path, "train.py", Context())

    assert network is not None
    assert network.source == f"model catalog: {source}"


@pytest.mark.parametrize("path", ["/data/models--nobody--knows", "/data/my-hf", "models--"])
def test_other_folders_stay_unknown(path):
    assert find_network(path, "train.py", Context()) is None

"""LLaMA-Factory: its argument classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from llamafactory.hparams import parser
from transformers import training_args

training_args.is_torch_bf16_gpu_available = lambda: True
training_args.is_torch_tf32_available = lambda: True
parser.is_torch_bf16_gpu_available = lambda: True

NAMED = ("deepspeed", "fsdp_config")
"""Arguments that name files."""


def arguments(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A YAML or JSON file of `llamafactory-cli train`. A name that no class has is refused."""
    table = {key: value for key, value in yaml.safe_load(text).items() if key not in NAMED}
    model, data, _, tuning, _ = parser._parse_train_args(table)
    parser._verify_model_args(model, data, tuning)
    return len(table), []


KINDS = {"arguments": arguments}

"""LitGPT: the parsers of its commands."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import yaml
from jsonargparse import CLI, capture_parser, set_docstring_parse_options
from litgpt.__main__ import PARSER_DATA

set_docstring_parse_options(attribute_docstrings=True)
PARSER = capture_parser(lambda: CLI(PARSER_DATA))


def _command(path: str, table: Mapping[str, Any]) -> str:
    if "lora_r" in table:
        return "finetune_lora"
    if "adapter_v2" in path:
        return "finetune_adapter_v2"
    if "adapter" in path:
        return "finetune_adapter"
    return "finetune_full" if "finetune" in path else "pretrain"


def arguments(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A YAML file, as `litgpt finetune … --config` reads it. A name that the command lacks is refused."""
    command = _command(question["path"], yaml.safe_load(text))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        PARSER.parse_args([command, "--config", file.name])
    return 1, []


KINDS = {"arguments": arguments}

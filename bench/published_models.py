"""The model column of published measurements: from a name with remarks to a network."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tomli

from vramlint.catalog.models import find_model
from vramlint.job import ConfigValue, Model

TABLE = Path(__file__).resolve().parent / "data" / "published_models.toml"
CONFIG_CLASSES = {"LlamaConfig": "llama"}
"""Configs that a row spells out as a call."""
TASKS = (
    (r"AutoModelForSequenceClassification", "seq-cls"),
    (r"AutoModel, no head", "embedding"),
    (r"torchvision", "image-cls"),
    (r"bert-", "masked-lm"),
    (r"t5|T0_|mt0", "seq2seq-lm"),
)


def model_of(text: str) -> Model | None:
    """The network that a row's `model` names, None when no table knows it."""
    task = next((task for pattern, task in TASKS if re.search(pattern, text)), "causal-lm")
    call = re.match(r"(\w+)\((.*?)\)", text)
    if call and call[1] in CONFIG_CLASSES:
        return Model(text, CONFIG_CLASSES[call[1]], _keywords(call[2]), task=task)
    name = re.split(r" \(| base$", text)[0]
    for candidate in (name, *_aliases(name)):
        if isinstance(candidate, Model):
            return candidate
        row = find_model(candidate)
        if row is not None:
            return Model(row.id, row.model_type, row.config, row.parameter_count, task)
    return None


def _aliases(name: str) -> list[str | Model]:
    found: list[str | Model] = []
    for entry in _table():
        match = re.search(entry["pattern"], name, re.IGNORECASE)
        if match is not None:
            same = match.expand(entry["same"]) if "same" in entry else ""
            found.append(same or Model(name, entry["model_type"], entry["config"]))
    return found


@cache
def _table() -> tuple[Mapping[str, Any], ...]:
    return tuple(tomli.loads(TABLE.read_text(encoding="utf-8"))["model"])


def _keywords(text: str) -> dict[str, ConfigValue]:
    """`a=1, b=2` as a dictionary."""
    pairs = (part.split("=", 1) for part in text.split(","))
    return {name.strip(): ast.literal_eval(value.strip()) for name, value in pairs}


def as_litgpt(model: Model) -> Model | None:
    """The same network as litgpt's own class has it (litgpt config.py), None for one that litgpt does not have.

    litgpt pads vocabularies; the published checkpoints' `vocab_size` is that padded one.
    """
    style = _LITGPT.get(model.model_type)
    if style is None:
        return None
    config = {**model.config, **style(model.config)}
    config.pop("model_type", None)
    return Model(model.name, "litgpt", config, model.parameter_count)


def _llama(config: Mapping[str, ConfigValue]) -> dict[str, ConfigValue]:
    return {"norm_class": "RMSNorm", "mlp_class": "LLaMAMLP", "bias": False, "parallel_residual": False}


def _gemma(config: Mapping[str, ConfigValue]) -> dict[str, ConfigValue]:
    return {**_llama(config), "mlp_class": "GemmaMLP", "scale_embeddings": True}


def _gemma2(config: Mapping[str, ConfigValue]) -> dict[str, ConfigValue]:
    return {**_gemma(config), "post_norms": True, "softcapped": True}


def _neox(config: Mapping[str, ConfigValue]) -> dict[str, ConfigValue]:
    return {
        "norm_class": "LayerNorm",
        "mlp_class": "GptNeoxMLP",
        "bias": True,
        "parallel_residual": True,
        "rotary_percentage": config.get("rotary_pct", 0.25),
    }


def _falcon(config: Mapping[str, ConfigValue]) -> dict[str, ConfigValue]:
    hidden = config["hidden_size"]
    new = bool(config.get("new_decoder_architecture"))
    groups = (config.get("num_kv_heads") if new else 1) or 1
    width = 4 * hidden if isinstance(hidden, int) else None
    style: dict[str, ConfigValue] = {**_neox(config), "bias": False, "rotary_percentage": 1.0}
    return {**style, "num_key_value_heads": groups, "intermediate_size": width, "shared_attention_norm": not new}


def _phi(config: Mapping[str, ConfigValue]) -> dict[str, ConfigValue]:
    rotary = config.get("partial_rotary_factor", 0.5)
    return {**_neox(config), "shared_attention_norm": True, "lm_head_bias": True, "rotary_percentage": rotary}


_LITGPT = {
    "llama": _llama,
    "mistral": _llama,
    "phi3": _llama,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gpt_neox": _neox,
    "falcon": _falcon,
    "phi": _phi,
}

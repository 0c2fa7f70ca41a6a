"""The model column of published measurements: from a name with remarks to a network."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tomli

from vramlint.catalog.litgpt_models import MODEL_TYPE, litgpt_model, of_checkpoint
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
    """The same network as litgpt's own class had it in 2023 and 2024, None for one that litgpt does not have.

    Only Gemma 2, whose scores are capped, had windows then, and norms multiplied in the dtype of their weights.
    """
    config = litgpt_model(model.name) or of_checkpoint(model.model_type, model.config)
    if config is None:
        return None
    if config.get("attention_logit_softcapping") is None:
        config.pop("sliding_window_size", None)
    return Model(model.name, MODEL_TYPE, {**config, "norm_widens_weights": False})


_COMPONENTS = ((r"llama-?3\.2", "llama3_2"), (r"llama-?3\.1", "llama3_1"), (r"llama-?3", "llama3"))
"""torchtune's builders of a release, whose layers share their rotary tables or not."""


def as_torchtune(model: Model) -> Model | None:
    """The same network as torchtune's decoder, None for one that it does not have."""
    if model.model_type not in ("llama", "mistral", "qwen2", "phi3", "gemma"):
        return None
    own = "llama2" if model.model_type == "llama" else model.model_type
    component = next((name for pattern, name in _COMPONENTS if re.search(pattern, model.name, re.IGNORECASE)), own)
    bias = model.model_type == "qwen2"
    return Model(model.name, "torchtune", {**model.config, "component": component, "attention_bias": bias})


def as_torchtitan(model: Model) -> Model | None:
    """The same network as torchtitan's, None for one that is not known to be."""
    if model.model_type != "llama":
        return None
    return Model(model.name, "torchtitan", {**model.config, "component": "llama3", "max_position_embeddings": 8192})


OWN_MODELS: Mapping[str, Callable[[Model], Model | None]] = {
    "litgpt": as_litgpt,
    "torchtitan": as_torchtitan,
    "torchtune": as_torchtune,
}
"""Frameworks with model classes of their own."""

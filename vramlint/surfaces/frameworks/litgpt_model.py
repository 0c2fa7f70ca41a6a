"""The model of a run of litgpt: its name, and its network as litgpt itself describes it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.catalog.litgpt_models import MODEL_TYPE, completed, hub_id, litgpt_model, of_checkpoint
from vramlint.catalog.models import find_model
from vramlint.job import ConfigValue
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.litgpt_scripts import Script, since, words
from vramlint.surfaces.frameworks.networks import define
from vramlint.surfaces.launch.framework_programs import WORDS
from vramlint.surfaces.model_config import config_values
from vramlint.values import Table

_FOLDER = "checkpoints/"
_CHUNK = 128
"""lm_head_chunk_size of the finetuning scripts."""
_STABLE_FROM, _WIDE_NORMS_FROM = (0, 5, 0), (0, 4, 6)
"""Releases since which a quantized run replaces the embedding after the optimizer is made (pull request 1770), and
RMSNorm multiplies in float32."""


def define_model(config: Config, script: Script) -> None:
    """The model and its network, whose head runs in pieces where it is finetuned."""
    key = "checkpoint_dir" if script.objective == "sft" else "model_name"
    written = config.text(key)
    if config.is_unknown(key):
        config.unknown("model", "decided at run time", key)
    elif not written:
        written = next(reversed(words(config)), "")
        if written:
            config.state("model", _named(written, script), WORDS)
        elif config.given(WORDS):
            config.unknown("model", "decided at run time", WORDS)
    else:
        config.state("model", _named(written, script), key)
    config.derive("attention_implementation", "sdpa", "litgpt calls torch's scaled_dot_product_attention")
    named = config.fact("model")
    row = find_model(str(named.value)) if named is not None and named.known else None
    if row is not None:
        config.derive("model_type", row.model_type, f"model catalog: {row.id}", key)
    network = _network(config, written)
    if network is None:
        return
    if network.get("attention_logit_softcapping") is not None:
        config.derive("attention_implementation", "eager", "the model caps its scores, which sdpa cannot", over=True)
    length = config.integer("train.max_seq_length")
    bound = network["max_position_embeddings"]
    if length and isinstance(bound, int):
        network["max_position_embeddings"] = min(length, bound)  # rope's tables are made anew for the sequences
    network["lm_head_chunk_size"] = _CHUNK if script.objective == "sft" else 0
    network["tie_embeddings"] = script.objective == "pretrain" and config.on("train.tie_embeddings")
    network["stable_embedding"] = config.given("quantize") and since(config, _STABLE_FROM)
    network["norm_widens_weights"] = since(config, _WIDE_NORMS_FROM)
    if script.objective == "pretrain":
        network["vocab_size"] = network["padded_vocab_size"]
        if not length and isinstance(bound, int):
            config.derive("sequence_length", bound, "the model's block_size", "model_config.block_size", "model_name")
        _sizes(config, network)
    define(config, {"model_type": MODEL_TYPE, **network})


def _named(written: str, script: Script) -> str:
    """The hub's id of a checkpoint's folder; a model to pretrain as litgpt calls it."""
    path = written.strip("/")
    inside = path.rpartition(_FOLDER)[2] if _FOLDER in f"{path}/" else path
    if script.objective == "pretrain" or "/" in inside:
        return inside
    return hub_id(inside) or inside


def _network(config: Config, written: str) -> dict[str, ConfigValue] | None:
    """The network as litgpt describes it: written here, in its table, or made of the checkpoint's config.json."""
    table = config.value("model_config")
    if isinstance(table, Table) and table.get("n_layer") is not None:
        return completed(config_values(table))
    fact = config.fact("model")
    name = str(fact.value) if fact is not None and fact.known else written
    found = litgpt_model(name) if name else None
    if found is not None or not name:
        return found
    row = find_model(name)
    return of_checkpoint(row.model_type, row.config) if row is not None else None


_SIZES: Mapping[str, str] = MappingProxyType(
    {
        "layers": "n_layer",
        "hidden_size": "n_embd",
        "attention_heads": "n_head",
        "key_value_heads": "n_query_groups",
        "vocabulary_size": "padded_vocab_size",
        "intermediate_size": "intermediate_size",
    }
)


def _sizes(config: Config, network: Mapping[str, ConfigValue]) -> None:
    """The sizes of a model that is trained from scratch."""
    for fact, key in _SIZES.items():
        value = network.get(key)
        if config.given(f"model_config.{key}"):
            config.say(fact, f"model_config.{key}", "count")
        elif isinstance(value, int):
            config.derive(fact, value, "litgpt's configuration of that name", "model_config", "model_name")
    tied = bool(network["tie_embeddings"])
    config.state("tied_embeddings", tied, "train.tie_embeddings")

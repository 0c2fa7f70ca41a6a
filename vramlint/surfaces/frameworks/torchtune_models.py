"""torchtune's models: what the name of a builder and its arguments say (torchtune 0.7 models/*/_model_builders.py)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.catalog.torchtune import Argument, Builder, builders
from vramlint.values import Entry, Items, Plain, Scalar, Table

SIMULATED = "torchtune"
"""`model_type` under which the memory model has torchtune's own decoder."""


class Named(Struct, frozen=True):
    """What the name of a builder says."""

    model: str
    """Without its package and the prefixes for adapters."""
    adapted: bool
    """`lora_…` and `qlora_…`: the builder adds adapters."""
    quantized: bool
    """`qlora_…`: the frozen weights are NF4."""
    builder: Builder | None
    """The row of torchtune's own builders; None for one of the project's."""


def named(component: str) -> Named:
    """What a dotted path (`torchtune.models.llama3.qlora_llama3_8b`) says."""
    name = component.rpartition(".")[2]
    quantized, adapted = name.startswith("qlora_"), name.startswith(("lora_", "qlora_"))
    model = name.removeprefix("qlora_").removeprefix("lora_") if adapted else name
    own = "torchtune" in component.split(".") or "." not in component
    return Named(model, adapted, quantized, builders().get(model) if own else None)


_TYPES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("llama2", "llama3", "llama3_1", "llama3_2", "smollm2", "llama2_classifier"), "llama"),
        **dict.fromkeys(("mistral", "mistral_classifier"), "mistral"),
        "phi3": "phi3",
        "qwen2": "qwen2",
        "qwen3": "qwen3",
        "gemma": "gemma",
        "gemma2": "gemma2",
        "llama3_2_vision_decoder": "mllama",
        "llama4_decoder": "llama4",
    }
)
"""Component builder and the `model_type` of the same architecture in transformers."""

_TIED = ("gemma", "gemma2")
"""Their heads are the embeddings without an argument that says so."""
_OTHER = ("mllama", "llama4")
"""Architectures that torchtune's plain decoder does not cover."""

_SIZES: Mapping[str, str] = MappingProxyType(
    {
        "vocab_size": "vocab_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "num_kv_heads": "num_key_value_heads",
        "embed_dim": "hidden_size",
        "intermediate_dim": "intermediate_size",
        "max_seq_len": "max_position_embeddings",
        "head_dim": "head_dim",
        "tie_word_embeddings": "tie_word_embeddings",
        "q_norm": "qk_norm",
        "q_proj_bias": "attention_bias",
        "hidden_capping_value": "attn_logit_softcapping",
        "final_capping_value": "final_logit_softcapping",
        "sliding_window_size": "sliding_window",
        "num_classes": "num_labels",
        "hidden_dim": "intermediate_size",
        "num_experts": "num_local_experts",
        "experts_per_token": "num_experts_per_tok",
    }
)
"""Arguments of component builders and the keys of config.json that mean the same."""

DIMENSIONS: Mapping[str, str] = MappingProxyType(
    {
        "num_layers": "layers",
        "num_heads": "attention_heads",
        "num_kv_heads": "key_value_heads",
        "embed_dim": "hidden_size",
        "intermediate_dim": "intermediate_size",
        "vocab_size": "vocabulary_size",
    }
)
"""Arguments that a configuration gives a component builder itself, and the facts that they say."""


def model_type(builder: Builder) -> str:
    """The architecture by transformers' name; empty for one that has none."""
    return _TYPES.get(builder.component, "")


def network(builder: Builder, given: Mapping[str, Plain]) -> Table | None:
    """The config.json of a builder's model, as far as its sizes go; None where a size is missing.

    Args:
        builder: its row.
        given: arguments that the configuration gives it.
    """
    said: dict[str, Argument] = {**builder.arguments, **{key: value for key, value in given.items() if key in _SIZES}}
    if not {"vocab_size", "num_layers", "num_heads", "embed_dim"} <= said.keys():
        return None
    architecture = model_type(builder)
    width = said["embed_dim"]
    if "intermediate_dim" not in said and isinstance(width, int):
        said["intermediate_dim"] = scaled_width(width)
    if builder.component in _TIED:
        said["tie_word_embeddings"] = True
    config: dict[str, Argument] = {_SIZES[key]: value for key, value in said.items() if key in _SIZES}
    config["model_type"] = architecture if architecture in _OTHER or "num_classes" in said else SIMULATED
    config["architecture"] = architecture
    config["component"] = builder.component
    entries = [Entry(key, None, _value(value)) for key, value in config.items()]
    if architecture in _OTHER:
        entries.append(Entry("vision_config", None, Table((Entry("model_type", None, Scalar(builder.family)),))))
    return Table(tuple(entries))


def scaled_width(width: int) -> int:
    """models/llama2/_model_utils.py, scale_hidden_dim_for_mlp."""
    return -(-4 * int(2 * width / 3) // 256) * 256


def _value(value: Argument) -> Scalar | Items:
    if isinstance(value, list):
        return Items(tuple([Scalar(item) for item in value]))
    return Scalar(value)

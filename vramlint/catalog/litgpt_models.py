"""litgpt's own models: its table of names, the defaults of its Config, and models of transformers in its terms.

litgpt 0.5.13 config.py. A network of its class GPT is described by the arguments of Config.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

from vramlint.catalog.lines import lines
from vramlint.job import ConfigValue

_FILE = "litgpt_models.tsv"
MODEL_TYPE = "litgpt"
"""`model_type` of a network of litgpt's GPT."""

Arguments = Mapping[str, ConfigValue]

_DEFAULTS: Arguments = MappingProxyType(
    {
        "block_size": 4096,
        "n_layer": 16,
        "n_embd": 4096,
        "vocab_size": 50254,
        "padding_multiple": 512,
        "norm_class_name": "LayerNorm",
        "parallel_residual": True,
        "n_head": 32,
        "rotary_percentage": 0.25,
        "bias": True,
        "mlp_class_name": "GptNeoxMLP",
    }
)
"""Defaults of Config that decide memory; what is in no line is off, or follows from others."""


def completed(arguments: Arguments) -> dict[str, ConfigValue]:
    """The arguments of Config with its defaults and what its __post_init__ computes.

    `max_position_embeddings` is block_size under the name of config.json. Keys as litgpt has them; sizes in elements.
    """
    config: dict[str, ConfigValue] = {
        **_DEFAULTS,
        **{key: value for key, value in arguments.items() if value is not None},
    }
    width, heads = config["n_embd"], config["n_head"]
    vocabulary, multiple = config["vocab_size"], config["padding_multiple"]
    if isinstance(width, int) and isinstance(heads, int):
        config.setdefault("head_size", width // heads)
        config.setdefault("intermediate_size", 4 * width)
    if isinstance(vocabulary, int) and isinstance(multiple, int):
        config.setdefault("padded_vocab_size", -(-vocabulary // multiple) * multiple)
    config.setdefault("n_query_groups", heads)
    config["max_position_embeddings"] = config["block_size"]
    return config


def litgpt_model(name: str) -> dict[str, ConfigValue] | None:
    """The completed Config of a name, as Config.from_name and Config.from_checkpoint look it up; None for no name.

    Args:
        name: litgpt's own name, the hub's id, or that without its owner.
    """
    by_name = _by_name()
    found = next((by_name[key] for key in (name.lower(), name.rpartition("/")[2].lower()) if key in by_name), None)
    return None if found is None else completed(found)


def parameter_count(config: Arguments) -> int | None:
    """Parameters of the GPT that a completed Config describes (litgpt 0.5.13 model.py); None for latent attention.

    A head that shares the embedding's weight (`tie_embeddings`) counts once.
    """
    sizes = {key: value for key, value in config.items() if isinstance(value, int) and not isinstance(value, bool)}
    needed = ("n_embd", "n_layer", "n_head", "n_query_groups", "head_size", "intermediate_size", "padded_vocab_size")
    if config.get("latent_attention") or not all(key in sizes for key in needed):
        return None
    width, layers, heads, groups, size, inner, vocabulary = (sizes[key] for key in needed)
    biased, gated = bool(config.get("bias")), config.get("mlp_class_name") != "GptNeoxMLP"
    queries = (heads + 2 * groups) * size
    attention = width * queries + heads * size * width
    attention += queries * (biased or bool(config.get("attn_bias"))) + width * biased
    experts = sizes.get("n_expert", 0)
    inner = sizes.get("moe_intermediate_size", inner) if experts else inner
    dense = (3 if gated else 2) * width * inner + ((2 if gated else 1) * inner + width) * biased
    mlp = experts * (dense + width) if experts else dense  # the router has a row for each expert
    norm = 0 if config.get("elementwise_affine") is False else 1 + (config.get("norm_class_name") == "LayerNorm")
    norms = [
        config.get("norm_1") is not False,
        config.get("norm_2") is not False and not config.get("shared_attention_norm"),
        bool(config.get("post_attention_norm")),
        bool(config.get("post_mlp_norm")),
    ]
    whole = config.get("norm_qk_type") == "olmo2"
    normed = size * (heads + groups if whole else 2) if config.get("norm_qk") else 0
    block = attention + mlp + norm * (width * sum(norms) + normed)
    ends = vocabulary * width * (1 if config.get("tie_embeddings") else 2)
    return layers * block + norm * width + ends + vocabulary * bool(config.get("lm_head_bias"))


@cache
def _by_name() -> Mapping[str, Arguments]:
    found: dict[str, Arguments] = {}
    for own, owner, hub, arguments in lines(_FILE):
        values = {key: tuple(item) if isinstance(item, list) else item for key, item in json.loads(arguments).items()}
        for name in (own, hub, f"{owner}/{hub}"):
            found.setdefault(name.lower(), MappingProxyType(values))
    return found


def hub_id(name: str) -> str:
    """The hub's id of one of litgpt's names; empty for one that is in no line."""
    last = name.rpartition("/")[2].lower()
    for own, owner, hub, _ in lines(_FILE):
        if last in (own.lower(), hub.lower()):
            return f"{owner}/{hub}"
    return ""


def of_checkpoint(model_type: str, config: Arguments) -> dict[str, ConfigValue] | None:
    """The completed Config of a model that transformers has under `model_type`; None where litgpt has no such model.

    litgpt's convert_hf_checkpoint takes the vocabulary as the checkpoint has it, so it is the padded one already.
    """
    style = _STYLES.get(model_type)
    if style is None:
        return None
    shared = {own: config[theirs] for own, theirs in _SAME.items() if config.get(theirs) is not None}
    return completed({**shared, **style(config)})


_SAME: Mapping[str, str] = MappingProxyType(
    {
        "block_size": "max_position_embeddings",
        "n_layer": "num_hidden_layers",
        "n_embd": "hidden_size",
        "vocab_size": "vocab_size",
        "padded_vocab_size": "vocab_size",
        "n_head": "num_attention_heads",
        "n_query_groups": "num_key_value_heads",
        "head_size": "head_dim",
        "intermediate_size": "intermediate_size",
    }
)
"""Arguments of Config and the keys of config.json that mean the same."""


def _llama(config: Arguments) -> dict[str, ConfigValue]:
    return {
        "norm_class_name": "RMSNorm",
        "mlp_class_name": "LLaMAMLP",
        "bias": False,
        "parallel_residual": False,
        "rotary_percentage": 1.0,
    }


def _qwen2(config: Arguments) -> dict[str, ConfigValue]:
    return {**_llama(config), "attn_bias": True}


def _qwen3(config: Arguments) -> dict[str, ConfigValue]:
    return {**_llama(config), "norm_qk": True}


def _gemma(config: Arguments) -> dict[str, ConfigValue]:
    return {**_llama(config), "mlp_class_name": "GemmaMLP", "scale_embeddings": True}


def _gemma2(config: Arguments) -> dict[str, ConfigValue]:
    capped = {"attention_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    return {**_gemma(config), "post_attention_norm": True, "post_mlp_norm": True, **capped}


def _neox(config: Arguments) -> dict[str, ConfigValue]:
    return {
        "norm_class_name": "LayerNorm",
        "mlp_class_name": "GptNeoxMLP",
        "bias": True,
        "parallel_residual": True,
        "rotary_percentage": config.get("rotary_pct", 0.25),
    }


def _falcon(config: Arguments) -> dict[str, ConfigValue]:
    hidden = config["hidden_size"]
    new = bool(config.get("new_decoder_architecture"))
    groups = (config.get("num_kv_heads") if new else 1) or 1
    width = 4 * hidden if isinstance(hidden, int) else None
    style: dict[str, ConfigValue] = {**_neox(config), "bias": False, "rotary_percentage": 1.0}
    return {**style, "n_query_groups": groups, "intermediate_size": width, "shared_attention_norm": not new}


def _phi(config: Arguments) -> dict[str, ConfigValue]:
    rotary = config.get("partial_rotary_factor", 0.5)
    return {**_neox(config), "shared_attention_norm": True, "lm_head_bias": True, "rotary_percentage": rotary}


_STYLES: Mapping[str, Callable[[Arguments], dict[str, ConfigValue]]] = MappingProxyType(
    {
        "llama": _llama,
        "mistral": _llama,
        "phi3": _llama,
        "qwen2": _qwen2,
        "qwen3": _qwen3,
        "gemma": _gemma,
        "gemma2": _gemma2,
        "gpt_neox": _neox,
        "falcon": _falcon,
        "phi": _phi,
    }
)
"""How litgpt's configurations of an architecture differ from the defaults of Config, by `model_type`."""

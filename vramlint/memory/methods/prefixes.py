"""Prefix tuning: keys and values before the text, in every layer."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.prefixes import Prefix
from vramlint.memory.refusal import NotFollowedError

PREFIXED = frozenset({"llama", "mistral", "qwen2"})
"""Model types whose attention is followed over a prefix."""
_DIMENSIONS = ("hidden_size", "num_attention_heads", "num_hidden_layers")


def prefix_of(build: Maker, config: Mapping[str, object]) -> Prefix | None:
    """The keys and values before the text of a model of `config`; their encoder is float32 whatever the model is.

    Raises:
        NotFollowedError: attention of such a model is not followed over a prefix, or layers are checkpointed.
    """
    adapter = build.adapter
    if adapter is None:
        return None
    if build.model_type not in PREFIXED or build.checkpointed or not adapter.virtual_tokens:
        raise NotFollowedError("this form of prefix tuning")
    hidden, heads, layers = (_size(config, f"{key}") for key in _DIMENSIONS)
    shared = _size(config, "num_key_value_heads") or heads
    width = shared * (hidden // heads)
    name, total = "prompt_encoder.default", 2 * layers * width
    if adapter.options.get("prefix_projection") is not True:
        table = build.wide(f"{name}.embedding.weight", (adapter.virtual_tokens, total))
        return Prefix(table, (), shared, hidden // heads, build.dtype)
    inner = option(adapter, "encoder_hidden_size", hidden)
    table = build.wide(f"{name}.embedding.weight", (adapter.virtual_tokens, width))
    projection = [
        (build.wide(f"{name}.transform.{n}.weight", size), build.wide(f"{name}.transform.{n}.bias", size[:1]))
        for n, size in ((0, (inner, width)), (2, (total, inner)))
    ]
    return Prefix(table, projection, shared, hidden // heads, build.dtype)


def _size(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) else 0

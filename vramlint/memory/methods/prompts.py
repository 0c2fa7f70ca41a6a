"""Prompt tuning and p-tuning: embeddings before the text."""

from __future__ import annotations

from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.prompts import Prompt
from vramlint.memory.refusal import NotFollowedError


def prompt_of(build: Maker, width: int) -> Prompt | None:
    """The virtual tokens of a model of `width`; their encoder is float32 whatever the model is.

    Raises:
        NotFollowedError: the encoder is an LSTM.
    """
    adapter = build.adapter
    if adapter is None:
        return None
    if not adapter.virtual_tokens:
        raise NotFollowedError("a prompt whose length is not known")
    name = "prompt_encoder.default"
    table = build.wide(f"{name}.embedding.weight", (adapter.virtual_tokens, width))
    if adapter.method == "prompttuning":
        return Prompt(table)
    if adapter.options.get("encoder_reparameterization_type", "MLP") != "MLP":
        raise NotFollowedError("p-tuning with an LSTM")
    inner = option(adapter, "encoder_hidden_size", width)
    sizes = ((inner, width), (inner, inner), (width, inner))
    layers = [
        (build.wide(f"{name}.mlp_head.{2 * n}.weight", size), build.wide(f"{name}.mlp_head.{2 * n}.bias", size[:1]))
        for n, size in enumerate(sizes)
    ]
    return Prompt(table, layers)

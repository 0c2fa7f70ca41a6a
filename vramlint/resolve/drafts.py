"""Draft models of speculative decoding: what trains is a small network of its own beside a target that is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from vramlint.facts import Fact, Link
from vramlint.resolve.board import derived
from vramlint.resolve.context import Context, candidates
from vramlint.resolve.network import Network, find_network, read_network

if TYPE_CHECKING:
    from vramlint.job import ConfigValue

_UNSEEN = "a layer like the target's, for the draft's file is not found"
DRAFT = "draft_model"
"""The fact that such a run has."""

_SIZES: Mapping[str, str] = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "attention_heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
    "intermediate_size": "intermediate_size",
    "vocabulary_size": "vocab_size",
}
_KEPT = (*_SIZES.values(), "head_dim", "max_position_embeddings", "hidden_act", "attention_bias", "rms_norm_eps")
"""What a draft without a file of its own takes from its target (specforge/training/model_loading.py)."""


def draft_network(
    facts: Mapping[str, Fact], target: Network | None, path: str, context: Context, started: Sequence[str]
) -> Network | None:
    """The decoder that trains, by the file that describes it, else like the target's; None where neither is known.

    Its vocabulary is the draft's own, which is smaller, and its parameters are those that train: what is only taken
    over from the target is left out, so that a figure from them is a lower bound. Where the draft's file is not there,
    it is one layer of the target's sizes: less than any of the drafts that SpecForge itself has (0.19 to 0.85 of them).
    """
    fact = facts[DRAFT]
    if not fact.candidates:
        return None
    name = str(fact.value or "").removeprefix("…/")
    if not name:
        return _like(target, facts)
    for place in candidates(path, Link("model-config", name, fact.place), context, started):
        file = place if place.endswith(".json") else f"{place}/config.json"
        network = read_network(file, context)
        if network is not None:
            return _decoder(network)
    found = None if name.endswith(".json") else find_network(name, path, context, started)
    if found is not None:
        return _decoder(found)
    least = _like(target, {})
    return replace(least, source=_UNSEEN) if least is not None else None


def draft_facts(facts: Mapping[str, Fact], network: Network | None) -> dict[str, Fact]:
    """The facts with the draft's sizes; the model is unknown where its file is not found."""
    said = dict(facts)
    if network is None or network.source == _UNSEEN:
        reason = facts[DRAFT].reason or f"the draft model's file, {facts[DRAFT].value}, is not found"
        name = "model" if network is None else DRAFT
        if name in said:
            said[name] = replace(said[name], reason=reason)
        return said
    for name, key in _SIZES.items():
        size = network.integer(key)
        if size is not None and name not in said:
            said[name] = derived(name, size, network.source, facts[DRAFT])
    return said


def _like(target: Network | None, facts: Mapping[str, Fact]) -> Network | None:
    if target is None:
        return None
    text = target.config.get("text_config")
    own = text if isinstance(text, Mapping) else target.config
    layers = facts["layers"].value if "layers" in facts else None
    config = {key: own[key] for key in _KEPT if key in own}
    config["num_hidden_layers"] = layers if isinstance(layers, int) else 1
    if "intermediate_size" not in config and "moe_intermediate_size" in own:
        config["intermediate_size"] = own["moe_intermediate_size"]
    return _decoder(Network(target.model_type, config, target.source))


def _decoder(network: Network) -> Network:
    config: dict[str, ConfigValue] = dict(network.config)
    own = config.get("draft_vocab_size")
    if isinstance(own, int):
        config["vocab_size"] = own
    config["tie_word_embeddings"] = False
    kind = network.model_type if network.model_type in ("llama", "qwen3") else "llama"
    network = replace(network, model_type=kind, config=config)
    return replace(network, parameter_count=_trained(network, own))


def _trained(network: Network, vocabulary: object) -> int | None:
    """Parameters that train at the least: the matrices of the layers, and a head where the draft has a vocabulary.

    What joins the target's hidden states comes on top (specforge/modeling/draft: fc, wider projections of EAGLE-3).
    """
    hidden, layers = network.integer("hidden_size"), network.integer("num_hidden_layers")
    heads, inner = network.integer("num_attention_heads"), network.integer("intermediate_size")
    if not (hidden and layers and heads and inner):
        return None
    width = network.integer("head_dim") or hidden // heads
    pairs = 2 * (network.integer("num_key_value_heads") or heads) + 2 * heads
    head = hidden * vocabulary if isinstance(vocabulary, int) else 0
    return layers * (hidden * width * pairs + 3 * hidden * inner) + head

"""What a program changes of a model that it knows by name: keys of its config, the size of its vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Drawn, conditional, draw, unknown
from vramlint.surfaces.lineage import Lineage, last
from vramlint.values import Alternatives, Call, Entry, Keyword, Scalar, Table, Value

_DIMENSIONS_WORDS = """
    hidden_size num_hidden_layers num_attention_heads num_key_value_heads intermediate_size head_dim vocab_size
    max_position_embeddings n_embd n_layer n_head n_inner n_positions n_ctx d_model d_ff d_kv num_layers num_heads
    num_decoder_layers encoder_layers decoder_layers encoder_attention_heads decoder_attention_heads encoder_ffn_dim
    decoder_ffn_dim ffn_dim num_experts num_local_experts n_routed_experts num_experts_per_tok moe_intermediate_size
    tie_word_embeddings attention_dropout hidden_dropout_prob attention_probs_dropout_prob resid_pdrop embd_pdrop
    attn_pdrop dropout dropout_rate hidden_dropout
"""
DIMENSIONS = frozenset(_DIMENSIONS_WORDS.split())
"""Keys of config.json that decide what a model consists of and what its step holds."""
_POSITIONS = frozenset(("max_position_embeddings", "n_positions", "n_ctx"))
"""Keys that a checkpoint with learned positions dictates, and that cost nothing where positions are computed."""
RESIZED = "resize_token_embeddings"


def config_overrides(lineage: Lineage) -> Table | None:
    """Keys that the config of a model gets in place of the checkpoint's, by its loader or as attributes later on."""
    root = lineage.root
    if not isinstance(root, Call) or last(root.callee) not in {"from_pretrained", "from_config"}:
        return None
    config = root.argument("config") or (root.args[0] if last(root.callee) == "from_config" and root.args else None)
    sources = [item for item in (config, root) if isinstance(item, Call) and last(item.callee) != "from_config"]
    given = [
        Entry(keyword.name, keyword.name_place, _where_it_has_it(keyword.value))
        for source in sources
        for keyword in (*source.keywords, *_before(source, root))
        if keyword.name in DIMENSIONS and not (last(root.callee) == "from_pretrained" and _is_open_bound(keyword))
    ]
    # a dropout that only run time knows makes no other model: the checkpoint's own stands for it
    entries = [entry for entry in given if isinstance(entry.value, Scalar) or "drop" not in entry.key]
    return Table(tuple(entries), root.place) if entries else None


def _where_it_has_it(value: Value) -> Value:
    """What a key gets `if hasattr(config, key)`: the value, for a model without the key does not look at it."""
    if not isinstance(value, Alternatives):
        return value
    found = [option.value for option in value.options if option.condition.startswith("hasattr(")]
    return found[0] if len(found) == 1 else value


def _is_open_bound(keyword: Keyword) -> bool:
    """`config.max_position_embeddings = max(config.max_position_embeddings, length)`."""
    return keyword.name in _POSITIONS and not isinstance(keyword.value, Scalar)


def _before(config: Call, root: Call) -> Iterable[Keyword]:
    """Attributes that a config is given before the model is made of it."""
    for item in config.bindings:
        place = item.name_place
        if place is not None and place.path == root.place.path and place.span < root.place.span:
            yield item


def open_override(table: Table) -> Fact | None:
    """The model as unknown, where only run time knows one of the keys; None where all are known."""
    for entry in table:
        if not isinstance(entry.value, Scalar):
            reason = getattr(entry.value, "reason", "decided at run time")
            return unknown("model", f"its {entry.key}: {reason}", entry.key, entry.value.place or entry.key_place)
    return None


def resized(calls: Sequence[Call]) -> Iterable[Drawn]:
    """`model.resize_token_embeddings(50_300)`: the vocabulary that the model is left with."""
    for call in calls:
        if last(call.callee) != RESIZED:
            continue
        size = call.argument("new_num_tokens", 0)
        drawn = _vocabulary(size, call) if size is not None else None
        if drawn is not None:
            yield conditional(drawn, call.conditions)
            return


def _vocabulary(size: Value, call: Call) -> Fact | None:
    drawn = draw("vocabulary_size", size, CONVERTERS["count"], RESIZED, call.place)
    if not isinstance(drawn, Fact) or not drawn.known:
        reason = f"{RESIZED} takes a number that only run time knows"
        return unknown("vocabulary_size", reason, RESIZED, call.place)
    multiple = call.argument("pad_to_multiple_of", 1)
    if isinstance(multiple, Scalar) and isinstance(multiple.value, int) and multiple.value and drawn.known:
        count = int(str(drawn.value))
        padded = -(-count // multiple.value) * multiple.value
        return Fact(drawn.name, (Candidate(padded, drawn.place),), Origin.WRITTEN, drawn.key, drawn.via)
    return drawn

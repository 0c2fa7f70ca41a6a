"""A model's config.json, and other files of a model's sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.job import ConfigValue
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Draft, draw
from vramlint.values import Entry, Items, Scalar, Table, Value

_ROWS = (
    ("layers", "count", ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers")),
    ("attention_heads", "count", ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads")),
    ("key_value_heads", "count", ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads")),
    ("hidden_size", "count", ("hidden_size", "n_embd", "d_model", "hidden_dim")),
    (
        "intermediate_size",
        "count",
        ("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_embed_dim", "ffn_hidden_size"),
    ),
    ("vocabulary_size", "count", ("vocab_size", "vocab_size_or_config_json_file", "padded_vocab_size")),
    ("sequence_length", "count", ("max_seq_len", "max_position_embeddings", "n_positions", "max_sequence_length")),
    ("tied_embeddings", "flag", ("tie_word_embeddings",)),
    ("activation", "text", ("hidden_act", "activation_function", "hidden_activation", "feed_forward_proj")),
    ("dropout", "number", ("hidden_dropout_prob", "resid_pdrop", "dropout_rate", "dropout")),
    ("experts", "count", ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")),
    ("experts_per_token", "count", ("num_experts_per_tok", "moe_top_k", "moe_topk")),
    ("expert_intermediate_size", "count", ("moe_intermediate_size",)),
    ("shared_expert_intermediate_size", "count", ("shared_expert_intermediate_size",)),
    ("load_dtype", "dtype", ("dtype", "torch_dtype")),
)
"""Fact, converter, and the keys that configs of transformers (5.23, models/*/configuration_*.py), of llm-analysis
(llm_analysis/config.py, ModelConfig) and of the original BERT have for it."""

_QUADRUPLE = frozenset(("gpt2", "gptj", "gpt_neo", "codegen", "bloom", "gpt_bigcode", "falcon", "mpt"))
"""Architectures whose MLP is four times as wide as the model where their config says nothing or null
(transformers 5.23, models/*/modeling_*.py)."""

_ONE_KEY_HEAD = ("multi_query", "num_kv_heads", "n_head_kv", "new_decoder_architecture")
"""Keys of architectures that count key and value heads in a way of their own."""


def model_config_sheet(path: str, table: Table) -> Sheet:
    """The sizes that a config.json states, those of a composite model's text part included.

    The whole table is handed on as `model-config`.
    """
    draft = Draft()
    entry = table.entry("model_type")
    if entry and isinstance(entry.value, Scalar) and isinstance(entry.value.value, str):
        candidate = Candidate(entry.value.value, entry.value.place)
        draft.put(Fact("model_type", (candidate,), Origin.WRITTEN, "model_type", "config-file"))
    for part in _parts(table):
        _sizes(draft, part)
    _implied(draft, table)
    facts = tuple(
        [replace(fact, via="config-file") if fact.via == "literal" else fact for fact in draft.facts.values()]
    )
    return Sheet(path, "model-config", facts, tables=(("model-config", table),))


def _parts(table: Table) -> Iterator[Table]:
    """The config itself, then the part that holds the sizes of the text model: `text_config`, `bert_model_config`."""
    yield table
    for entry in table:
        if entry.key.endswith("config") and isinstance(entry.value, Table) and "vision" not in entry.key:
            yield entry.value


def _sizes(draft: Draft, table: Table) -> None:
    for fact, converter, keys in _ROWS:
        for key in keys:
            entry = table.entry(key)
            if entry is not None:
                drawn = draw(fact, entry.value, CONVERTERS[converter], key, entry.key_place)
                draft.put(drawn if isinstance(drawn, Fact) else None)


def _implied(draft: Draft, table: Table) -> None:
    """What follows where a size is not written: as many key heads as heads, an MLP four times as wide."""
    heads, hidden, kind = (draft.facts.get(name) for name in ("attention_heads", "hidden_size", "model_type"))
    written = {entry.key for entry in table}
    if heads is not None and heads.known and not written.intersection(_ONE_KEY_HEAD):
        reason = "every head has a key and a value of its own where no number of them is given"
        draft.put(_derived("key_value_heads", heads, heads.value, reason))
    wide = "ffn_embed_dim" in written or "hidden_dim" in written or (kind is not None and kind.value in _QUADRUPLE)
    if hidden is not None and isinstance(hidden.value, int) and wide:
        draft.put(_derived("intermediate_size", hidden, 4 * hidden.value, "an MLP is four times as wide as the model"))


def _derived(name: str, source: Fact, value: object, reason: str) -> Fact:
    said = value if isinstance(value, int) else None
    return Fact(name, (Candidate(said, source.place),), Origin.DERIVED, source.key, "derived", reason=reason)


def config_values(table: Table) -> dict[str, ConfigValue]:
    """A config.json as plain values; what is not known is left out."""
    return {entry.key: _plain(entry.value) for entry in table if isinstance(entry.value, (Scalar, Items, Table))}


def table_of(values: Mapping[str, ConfigValue]) -> Table:
    """Keys and values that no file writes, as a table; what is None is left out."""
    return Table(tuple([Entry(key, None, _located(value)) for key, value in values.items() if value is not None]))


def _located(value: ConfigValue) -> Value:
    if isinstance(value, Mapping):
        return table_of(value)
    if isinstance(value, tuple):
        return Items(tuple([_located(item) for item in value]))
    return Scalar(value)


def _plain(value: Value) -> ConfigValue:
    match value:
        case Scalar():
            return value.value
        case Items():
            return tuple(_plain(item) for item in value.values)
        case Table():
            return config_values(value)
        case _:
            return None

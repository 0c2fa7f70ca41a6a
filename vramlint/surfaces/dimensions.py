"""The dimensions of a model that the files define themselves: layers, heads, width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vramlint.facts import Fact, Origin
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Arguments, Draft, draw
from vramlint.surfaces.lineage import last, package
from vramlint.values import Call, Table, Value

_KEYS = (
    ("layers", "count", ("n_layer", "n_layers", "num_layers", "num_hidden_layers", "depth")),
    ("attention_heads", "count", ("n_head", "n_heads", "num_heads", "num_attention_heads")),
    ("key_value_heads", "count", ("n_kv_head", "n_kv_heads", "num_kv_heads", "num_key_value_heads")),
    ("hidden_size", "count", ("n_embd", "hidden_size", "d_model", "model_dim", "emb_dim")),
    ("vocabulary_size", "count", ("vocab_size", "vocabulary_size")),
    ("dropout", "number", ("dropout",)),
)
"""Fact, converter, and the usual names of the setting."""

_TELLING = ("layers", "attention_heads", "hidden_size")
"""Facts of which two make a config that of a transformer."""

_BASES = ("PretrainedConfig", "PreTrainedConfig")
"""Classes of transformers that the files derive configs of models of their own from."""
_CONFIGS = ("Config", "Args", "Params", "Configuration")


def given_dict(module: Call | None) -> dict[str, Value]:
    """The dict of dimensions that a module of the files is made from, as GPTModel(CONFIG) takes it."""
    for value in (*module.args, *(item.value for item in module.keywords)) if module is not None else ():
        if isinstance(value, Table):
            held = {entry.key: entry.value for entry in value}
            if sum(fact.name in _TELLING for fact in _drawn(held)) > 1:
                return held
    return {}


def dimensions(draft: Draft, calls: Sequence[Call], settings: Mapping[str, Value]) -> bool:
    """Put what a model's own config call says, else what settings of the usual names say.

    Returns:
        Whether a config of a model was found.
    """
    for call in calls:
        named = last(call.callee).endswith(_CONFIGS) and package(call.callee) not in {"transformers", "peft", "trl"}
        if named or (call.kind.endswith(_CONFIGS) and last(call.callee) in _BASES):
            found = _drawn({item.name: item.value for item in Arguments.of(call).keywords})
            if sum(fact.name in _TELLING for fact in found) > 1:
                draft.take(found)
                return True
    found = _drawn(settings)
    if any(fact.name in _TELLING for fact in found):
        draft.take(found)
    return sum(fact.name in _TELLING for fact in found) > 1


def _drawn(settings: Mapping[str, Value]) -> list[Fact]:
    found = []
    for fact, converter, names in _KEYS:
        name = next((name for name in names if name in settings), None)
        drawn = draw(fact, settings[name], CONVERTERS[converter], name) if name else None
        if name and isinstance(drawn, Fact) and drawn.origin is Origin.WRITTEN:
            found.append(drawn)
    return found

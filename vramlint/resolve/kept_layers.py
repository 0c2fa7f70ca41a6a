"""Checkpoints in 4 bits that keep some layers in 16, which only their own config.json lists."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.catalog.unsloth import dynamic_checkpoint
from vramlint.facts import Fact, Origin

KEPT_LAYERS = "quantization_skip_modules"


def with_kept_layers(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts of a run; what such a checkpoint keeps in 16 bits is not known unless the files say it."""
    by_name = {fact.name: fact for fact in facts}
    bits, model, said = (by_name.get(name) for name in ("quantization_bits", "model", KEPT_LAYERS))
    if bits is None or bits.value != 4 or model is None or (said is not None and said.candidates):
        return tuple(facts)
    name = str(model.value or "")
    loader = by_name.get("unsloth")
    maps = loader is not None and loader.value is True
    checkpoint = dynamic_checkpoint(name) if maps or name.lower().endswith("-unsloth-bnb-4bit") else ""
    if not checkpoint:
        return tuple(facts)
    reason = f"{checkpoint} keeps some layers in 16 bits, which its config.json lists"
    open_fact = Fact(KEPT_LAYERS, (), Origin.UNKNOWN, model.key, "runtime", reason=reason)
    return (*(fact for fact in facts if fact.name != KEPT_LAYERS), open_fact)


def are_open(facts: Sequence[Fact]) -> bool:
    """Whether it is not known which layers are kept."""
    return any(fact.name == KEPT_LAYERS and fact.origin is Origin.UNKNOWN for fact in facts)

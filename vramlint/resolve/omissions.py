"""Why a default holds: settings because of which a program leaves out what would make a fact another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.facts import Fact, FactValue, LeftOut, Origin

_WITHOUT: Mapping[str, frozenset[FactValue]] = MappingProxyType(
    {
        "tuning": frozenset({"full"}),
        "quantization_bits": frozenset({16}),
        "attention_implementation": frozenset({"sdpa", "eager"}),
        "activation_checkpointing": frozenset({False}),
        "fused_loss": frozenset({False}),
        "torch_compile": frozenset({False}),
        "packing": frozenset({False}),
        "bf16": frozenset({False}),
        "fp16": frozenset({False}),
        "precision": frozenset({"fp32", "bf16-pure", "fp16-pure"}),
        "load_dtype": frozenset({"float32"}),
        "parallelism": frozenset({"none"}),
    }
)
"""Facts and their values where the program does nothing for them."""


def with_omissions(facts: Iterable[Fact], omitted: Iterable[LeftOut]) -> Iterator[Fact]:
    """The facts, those that nothing in the program states with the settings because of which it doesn't."""
    by = {item.name: item.by for item in omitted}
    for fact in facts:
        places = by.get(fact.name, ())
        without = fact.known and fact.value in _WITHOUT.get(fact.name, ()) and fact.origin is not Origin.WRITTEN
        if places and (without or fact.place in places):  # or it was itself compared with a setting, and left
            others = (place for place in places if place != fact.place)
            yield replace(fact, decided=tuple(dict.fromkeys((*fact.decided, *others))))
        else:
            yield fact

"""Kinds of decoder layers: what of the sequence a layer attends to, and whether it rotates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from vramlint.memory.architectures.family import Config
from vramlint.memory.refusal import NotFollowedError

TABLES_BY_KIND_FROM = (5, 0)
"""Since then models with frequencies for each kind of layer have rotary tables for their own kinds, before for both."""
FULL = "full_attention"
SLIDING = "sliding_attention"
LINEAR = "linear_attention"
"""Keeps a state in place of keys and values."""


class Kind(NamedTuple):
    """What tells one decoder layer from another."""

    attention: str = FULL
    """Key of the mask it takes."""
    rotates: bool = True
    """Whether it rotates queries and keys by their positions."""
    sparse: bool = False
    """Whether its MLP is a choice of experts."""


def attention_types(config: Config, count: int, slides: Callable[[int], bool]) -> tuple[str, ...]:
    """`layer_types` of the config or, where it has none, what `slides` says of each layer.

    Raises:
        NotFollowedError: a layer is of another type.
    """
    stated = config.get("layer_types")
    if not isinstance(stated, Sequence) or isinstance(stated, str):
        return tuple([SLIDING if slides(index) else FULL for index in range(count)])
    types = tuple([str(kind) for kind in stated[:count]])
    if len(types) < count:
        raise ValueError("layer_types")
    for kind in types:
        if kind not in (FULL, SLIDING):
            raise NotFollowedError(f"a layer of type {kind}")
    return types


def every(period: int) -> Callable[[int], bool]:
    """Whether a layer is none of those that come once in `period` layers; 0: all come."""
    return lambda index: bool(period and (index + 1) % period)


def alike(kinds: Sequence[Kind]) -> Sequence[Kind]:
    """Kinds of layers whose windows do not show: all that attend to keys do so as the first.

    The first layer of any other kind keeps its own, and with it what is made for that kind and lives as long.
    """
    seen = {LINEAR}
    merged = []
    first = next((kind.attention for kind in kinds if kind.attention != LINEAR), FULL)
    for kind in kinds:
        alone = kind.attention == LINEAR or kind.attention not in seen
        merged.append(kind if alone else kind._replace(attention=first))
        seen.add(kind.attention)
    return merged


def tabled(attentions: Collection[str], transformers: tuple[int, ...]) -> Collection[str]:
    """The kinds of attention that have rotary tables of their own, in models with layers of kinds `attentions`."""
    return (FULL, SLIDING) if transformers < TABLES_BY_KIND_FROM else sorted(attentions)

"""Kinds of decoder layers: what of the sequence a layer attends to, and whether it rotates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from vramlint.memory.architectures.family import Config
from vramlint.memory.weights import NotFollowedError

TABLES_BY_KIND_FROM = (5, 0)
"""Since then models with frequencies for each kind of layer have rotary tables for their own kinds, before for both."""
FULL = "full_attention"
SLIDING = "sliding_attention"


class Kind(NamedTuple):
    """What tells one decoder layer from another."""

    attention: str = FULL
    """Key of the mask it takes."""
    rotates: bool = True
    """Whether it rotates queries and keys by their positions."""
    sparse: bool = False
    """Whether its MLP is a choice of experts where only some layers have them."""


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
    """Kinds of layers whose windows do not show: all attend as the first does.

    The first layer of any other kind keeps its own, and with it what is made for that kind and lives as long.
    """
    seen: set[str] = set()
    merged = []
    for kind in kinds:
        merged.append(kind._replace(attention=kinds[0].attention) if kind.attention in seen else kind)
        seen.add(kind.attention)
    return merged


def tabled(attentions: Collection[str], transformers: tuple[int, ...]) -> Collection[str]:
    """The kinds of attention that have rotary tables of their own, in models with layers of kinds `attentions`."""
    return (FULL, SLIDING) if transformers < TABLES_BY_KIND_FROM else attentions

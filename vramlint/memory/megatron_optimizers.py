"""What Megatron-Core's optimizers keep for one parameter, on the device and on the host.

NVIDIA/Megatron-LM@d98e8a6 megatron/core/optimizer/{optimizer,distrib_optimizer}.py, optimizer/cpu_offloading/
hybrid_optimizer.py; the precision-aware one is Transformer Engine 2.16's pytorch/optimizers/fused_adam.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from msgspec import Struct

from vramlint.job import DTYPE_BYTES, Megatron, PreciseAdam
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.update import Update

MASTER_BYTES = 4
"""Of a float32 copy of a 16-bit weight, and of a gradient accumulated in float32."""
REMAINDER_BYTES = 2
"""Of what a float32 master weight has beyond its bfloat16 weight (store_param_remainders)."""
_SCALE_BYTES = 4
"""Of the scale of a state that is not float32."""


class Owned(Struct, frozen=True):
    """Bytes that the optimizer has for a rank's share of a parameter."""

    master: int = 0
    """Of its float32 copy, from the start."""
    states: tuple[int, ...] = ()
    """Of each state, from the first step."""
    gradient: int = 0
    """Of a float32 copy of its gradient, from the optimizer's step to the next zero_grad."""
    passing: int = 0
    """Inside the step."""
    host: int = 0


def owned(engine: Megatron, weight: str, local: Parameter, update: Update | None) -> Owned:
    """What is kept on the device for a share.

    Args:
        engine: of the run.
        weight: dtype of the model's weights.
        local: the share, in float32.
        update: of the optimizer; None where nobody follows it.
    """
    narrow, elements = weight != "float32", local.numel
    states = tuple(update.states(local)) if update is not None else ()
    if engine.precise is not None and narrow:
        return _precise(engine.precise, weight, elements)
    wide = not narrow or engine.wide_gradients
    return Owned(MASTER_BYTES * elements * narrow, states, 0 if wide else MASTER_BYTES * elements)


def _precise(adam: PreciseAdam, weight: str, elements: int) -> Owned:
    """FusedAdam with master weights of its own: states in narrow dtypes are widened while it runs, all at once.

    Not where both are bfloat16, which its kernel takes (`fuse_unscale`). Gradients are taken as they are.
    """
    kinds = (adam.average, adam.variance)
    remains = adam.remainders and adam.master == "float32" and weight == "bfloat16"
    states = [DTYPE_BYTES[kind] * elements for kind in kinds]
    states += [REMAINDER_BYTES * elements if remains else DTYPE_BYTES[adam.master] * elements]
    states += [_SCALE_BYTES for kind in (*kinds, adam.master) if kind != "float32"]
    taken = ("bfloat16",) if kinds == ("bfloat16", "bfloat16") else ()
    widened = [kind for kind in kinds if kind not in ("float32", *taken)]
    widened += [adam.master] if adam.master != "float32" else []
    return Owned(0, tuple(states), 0, MASTER_BYTES * elements * len(widened))


def offloaded(engine: Megatron, local: Parameter, update: Update | None) -> Owned:
    """HybridDeviceOptimizer's share of a weight that is updated on the host: master weight, gradient and states there.

    A gradient that is not float32 is widened on the device before it goes.
    """
    elements = local.numel
    states = sum(update.states(local)) if update is not None else 0
    passing = 0 if engine.wide_gradients else MASTER_BYTES * elements
    return Owned(passing=passing, host=2 * MASTER_BYTES * elements + states)


def hybrid(engine: Megatron, local: Parameter, update: Update | None) -> Owned:
    """Its share of a weight that stays: a float32 copy and states beside it on the device."""
    elements = local.numel
    states = tuple(update.states(local)) if update is not None else ()
    return Owned(MASTER_BYTES * elements, states, 0 if engine.wide_gradients else MASTER_BYTES * elements)


class Piece(NamedTuple):
    """A part of a weight in a rank's slice of the gradient buffer."""

    position: int
    """Of the weight."""
    elements: int
    on_host: bool
    """The host updates it."""


def slices(weights: Sequence[Parameter], parts: int, fraction: float) -> list[list[Piece]]:
    """What each of `parts` ranks updates, and where: the host has piece after piece, until `fraction` of all is there.

    Ranks have equal slices of one buffer, in which the last weight of the model comes first
    (distributed/param_and_grad_buffer.py; with overlapped reductions there are several, each cut like that). A weight
    that ends a slice goes on in the next one, and a piece goes to the host whole (optimizer/cpu_offloading/
    hybrid_optimizer.py, _get_sub_optimizer_param_groups).
    """
    total = sum(p.numel * p.multiplicity for p in weights)
    size = -(-total // parts)
    found: list[list[Piece]] = [[] for _ in range(parts)]
    at = there = 0
    for position in _copies(weights):
        left = weights[position].numel
        while left:
            rank, within = divmod(at, size)
            there = there if within else 0
            elements = min(left, size - within)
            away = there < min(size, total - rank * size) * fraction
            found[rank].append(Piece(position, elements, away))
            there += elements * away
            at += elements
            left -= elements
    return found


def kept(pieces: Sequence[Piece]) -> int:
    """Elements that the device updates."""
    return sum(piece.elements for piece in pieces if not piece.on_host)


def hosted(pieces: Sequence[Piece]) -> int:
    """Elements that the host updates."""
    return sum(piece.elements for piece in pieces if piece.on_host)


def _copies(shares: Sequence[Parameter]) -> Iterator[int]:
    """Positions of the shares as the model has them, from its last to its first; alike layers one by one."""
    order = range(len(shares) - 1, -1, -1)
    for _, members in groupby(order, key=lambda position: shares[position].layer):
        layer = list(members)
        for copy in range(max(shares[position].multiplicity for position in layer)):
            yield from (position for position in layer if copy < shares[position].multiplicity)

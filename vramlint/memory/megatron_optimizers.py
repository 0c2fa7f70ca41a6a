"""What Megatron-Core's optimizers keep for one parameter, on the device and on the host.

NVIDIA/Megatron-LM@d98e8a6 megatron/core/optimizer/{optimizer,distrib_optimizer}.py, optimizer/cpu_offloading/
hybrid_optimizer.py; the precision-aware one is Transformer Engine 2.16's pytorch/optimizers/fused_adam.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from vramlint.job import DTYPE_BYTES, Megatron, PreciseAdam
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.update import Update

MASTER_BYTES = 4
"""Of a float32 copy of a 16-bit weight, and of a gradient accumulated in float32."""
REMAINDER_BYTES = 2
"""Of what a float32 master weight has beyond its bfloat16 weight (store_param_remainders)."""
_SCALE_BYTES = 4
"""Of the scale of a state that is not float32."""


class Owned(NamedTuple):
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


def on_host(shares: Sequence[Parameter], fraction: float) -> list[int]:
    """Of each share how many like it the host has: one after the other, until so large a part of all is there.

    The optimizer has them as the gradient buffers do, the last of the model first.
    """
    threshold, taken = sum(p.numel * p.multiplicity for p in shares) * fraction, 0
    found = [0] * len(shares)
    for position in _copies(shares):
        if taken >= threshold:
            break
        found[position] += 1
        taken += shares[position].numel
    return found


def _copies(shares: Sequence[Parameter]) -> Iterator[int]:
    """Positions of the shares as the model has them, from its last to its first; alike layers one by one."""
    order = range(len(shares) - 1, -1, -1)
    for _, members in groupby(order, key=lambda position: shares[position].layer):
        layer = list(members)
        for copy in range(max(shares[position].multiplicity for position in layer)):
            yield from (position for position in layer if copy < shares[position].multiplicity)

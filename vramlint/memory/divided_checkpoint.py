"""A checkpoint whose input the tensor-parallel ranks divide.

NVIDIA/Megatron-LM@d98e8a6 megatron/core/tensor_parallel/random.py: CheckpointFunction with
distribute_saved_activations: behind the forward each rank keeps an equal part of the input in a buffer of its own;
backward gathers the whole before it runs the layers again.
"""

from __future__ import annotations

from collections.abc import Callable

from vramlint.memory import checkpoint
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


def divided(tape: Tape, layers: Callable[[Tensor], Tensor], x: Tensor, ranks: int) -> Tensor:
    """`layers(x)`, recomputed in backward from the part of `x` that a rank keeps.

    Args:
        tape: records.
        layers: [B, S, H] to [B, S, H].
        x: their input.
        ranks: tensor-parallel ones.
    """
    part = x.as_shape((-(-x.numel // ranks),))
    part.storage = tape.empty(part.shape, x.dtype, "divided checkpoint").storage
    part.view, shape, entering = False, x.shape, [x]

    def run(y: Tensor) -> tuple[Tensor]:
        whole = y.as_shape(shape)
        given = entering.pop() if entering else tape.empty(shape, y.dtype, "gathered checkpoint")
        whole.storage = given.storage
        del given
        return (layers(whole),)

    (out,) = checkpoint.reentrant(tape, run, (part,), offload=False)
    if out.node is not None and out.node.edges[0] is not None:
        target, slot, _, dtype = out.node.edges[0]
        out.node.edges = ((target, slot, shape, dtype),)
    return out

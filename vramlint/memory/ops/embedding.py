"""Embedding look-ups."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

SORT_THRESHOLD = 3072
"""Above this many indices embedding_dense_backward sorts them (torch 2.13 aten/src/ATen/native/cuda/Embedding.cu)."""
SORT_BUFFERS = 5
"""int64 buffers of that path: sorted and original indices, segment bookkeeping, CUB scratch."""


def embedding(tape: Tape, indices: Tensor, weight: Parameter) -> Tensor:
    """`F.embedding(indices, weight)`: keeps the indices. Backward: a dense gradient of the whole table."""
    return look_up(tape, indices, weight) if weight.rows is None else weight.rows.looked_up(tape, indices, weight)


def look_up(tape: Tape, indices: Tensor, weight: Tensor) -> Tensor:
    """The look-up itself."""
    shape = (*indices.shape, weight.shape[1])
    return tape.apply("embedding", (weight,), shape, weight.dtype, _embedding_backward, save=(indices,))


def _embedding_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (indices,) = node.unpack(tape)
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    result = tape.empty(edge[2], gradient.dtype, "embedding backward")
    if indices.numel > SORT_THRESHOLD:
        tape.scratch([indices.numel * 8] * SORT_BUFFERS, "embedding backward")
    del indices
    return (result,)

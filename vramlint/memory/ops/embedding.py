"""Embedding look-ups."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor

SORT_THRESHOLD = 3072
"""Above this many indices embedding_dense_backward sorts them (torch 2.13 aten/src/ATen/native/cuda/Embedding.cu)."""
SORT_BUFFERS = 5
"""int64 buffers of that path: sorted and original indices, segment bookkeeping, CUB scratch."""
ROWS_PER_THREAD = 10
"""Rows of the gradient that one thread adds up (cuda/EmbeddingBackwardKernel.cu)."""


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
    sorted_indices(tape, indices, edge[2])
    del indices
    return (result,)


def sorted_indices(tape: Tape, indices: Tensor, table: Shape) -> None:
    """What the kernel holds that adds up the gradient of a table, where it sorts the indices first."""
    if indices.numel > SORT_THRESHOLD:
        buffers = [indices.numel * 8] * SORT_BUFFERS
        if not tape.observed:
            buffers.append(_partial_rows(indices.numel, table))
        tape.scratch(buffers, "embedding backward")


def _partial_rows(looked_up: int, table: Shape) -> int:
    """Bytes of the kernel's sums in float32, as many as there can be at most: it does not wait to know how many are.

    torch 2.13 aten/src/ATen/native/cuda/EmbeddingBackwardKernel.cu, grad_weight_per_segment
    """
    rows = looked_up // ROWS_PER_THREAD + min(looked_up, table[0])
    return rows * table[1] * 4

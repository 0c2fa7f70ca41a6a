"""What DTensor does between the products of tensor parallelism (torch 2.13 torch/distributed/tensor).

Residuals [B, S / ranks, H] are divided by the sequence. A collective over another dimension than the first goes through
a copy in the order of the ranks (_functional_collectives.py, all_gather_single and reduce_scatter_single; a batch of
one is gathered without, _utils.py, _maybe_view_chunk_cat).
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.ops.embedding import sorted_indices
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

SCATTERED = "reduce scatter"
"""The operator, whose results op-level selective checkpointing keeps."""


def gathered(tape: Tape, x: Tensor, ranks: int, *, partial: bool = True) -> Tensor:
    """Shard(1) to Replicate: [B, S / ranks, H] put together. Backward: the sum of the ranks' gradients, scattered.

    Of gradients that are not `partial` every rank has the whole, and takes its part.
    """
    if ranks == 1:
        return x
    if x.shape[0] > 1:
        tape.scratch((x.nbytes * ranks,), "all-gather")
    shape = (x.shape[0], x.shape[1] * ranks, *x.shape[2:])
    return tape.apply("all gather", (x,), shape, x.dtype, _gathered_backward if partial else _whole_backward)


def _gathered_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    edge = node.edges[0]
    gradient = gradients[0]
    if gradient is None or edge is None:
        return (None,)
    ordered = tape.empty(gradient.shape, gradient.dtype, "chunks", "temporaries")
    found = tape.empty(edge[2], gradient.dtype, SCATTERED)
    del ordered
    return (found,)


def scattered(tape: Tape, x: Tensor, ranks: int) -> Tensor:
    """Partial to Shard(1): the ranks' [B, S, H] added up, each its part. Backward: the gradient put together."""
    if ranks == 1:
        return x
    ordered = tape.empty(x.shape, x.dtype, "chunks", "temporaries")
    shape = (x.shape[0], x.shape[1] // ranks, *x.shape[2:])
    out = tape.apply(SCATTERED, (x,), shape, x.dtype, _scattered_backward, context=ranks)
    del ordered
    return out


def _scattered_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    edge = node.edges[0]
    gradient = gradients[0]
    if gradient is None or edge is None:
        return (None,)
    if gradient.shape[0] > 1:
        tape.scratch((gradient.nbytes * node.context,), "all-gather")
    return (tape.empty(edge[2], gradient.dtype, "all gather"),)


def divided_embedding(tape: Tape, tokens: Tensor, weight: Parameter, ranks: int) -> Tensor:
    """RowwiseParallel of nn.Embedding: tokens outside of this rank's rows are masked, the ranks' results added up.

    Backward: the gradient of the whole table, for DTensor has no other way (_ops/_embedding_ops.py,
    embedding_dense_backward_strategy); this rank's part of it is taken where it is reduced.
    """
    return scattered(tape, masked_look_up(tape, tokens, weight, ranks), ranks)


def masked_look_up(tape: Tape, tokens: Tensor, weight: Parameter, ranks: int) -> Tensor:
    """What a rank's rows give of the embeddings of all tokens."""
    masked = tape.empty(tokens.shape, "int64", "masked input")
    shape = (*tokens.shape, weight.shape[1])
    return tape.apply("embedding", (weight,), shape, weight.dtype, _embedding_backward, save=(masked,), context=ranks)


def _embedding_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (indices,) = node.unpack(tape)
    edge = node.edges[0]
    gradient = gradients[0]
    if gradient is None or edge is None:
        return (None,)
    rows, width = edge[2]
    whole = tape.empty((rows * node.context, width), gradient.dtype, "embedding backward")
    sorted_indices(tape, indices, whole.shape)
    return (Tensor(edge[2], gradient.dtype, whole.storage),)


def row(tape: Tape, x: Tensor, weights: Weights, ranks: int) -> Tensor:
    """RowwiseParallel of nn.Linear, whose output is divided by the sequence."""
    return scattered(tape, linear(tape, x, weights), ranks)


def whole_logits(tape: Tape, x: Tensor, ranks: int) -> Tensor:
    """Shard(-1) to Replicate: [B, S, V / ranks] put together, through a copy. Backward: this rank's part of it."""
    shape = (*x.shape[:-1], x.shape[-1] * ranks)
    tape.scratch((x.nbytes * ranks,), "all-gather")
    return tape.apply("all gather", (x,), shape, x.dtype, _whole_backward, component="logits and loss")


def _whole_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    edge = node.edges[0]
    gradient = gradients[0]
    if gradient is None or edge is None:
        return (None,)
    return (tape.empty(edge[2], gradient.dtype, "chunks"),)


def divided_cross_entropy(tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
    """`loss_parallel`: the cross entropy of logits [T, V / ranks], by formulas (tensor/parallel/loss.py).

    Keeps the log-probabilities. Backward: the exponentials, two sums and the zeros that they begin with.
    """
    shifted = tape.empty(logits.shape, logits.dtype, "shifted logits", "logits and loss")
    tape.scratch((logits.nbytes,), "exponentials")
    results = ((logits.shape[:-1], "int64", "masked labels"),)
    return _loss(tape, logits, labels, shifted, results)


def _loss(
    tape: Tape, logits: Tensor, labels: Tensor, shifted: Tensor, results: Sequence[tuple[tuple[int, ...], str, str]]
) -> Tensor:
    inputs, kept = (logits,), ((logits.shape, logits.dtype, "log-probabilities"), *results)
    loss = tape.apply("cross entropy", inputs, (1,), logits.dtype, _loss_backward, save=(labels,), results=kept)
    del shifted
    return loss


def _loss_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    edge = node.edges[0]
    if gradients[0] is None or edge is None:
        return (None,)

    def like(operator: str) -> Tensor:
        return tape.empty(edge[2], edge[3], operator, "logits and loss")

    zeros = like("zeros")
    exponentials = like("exponentials")
    added = like("sum")
    del exponentials
    scaled = like("cross entropy backward")
    del saved, zeros, added
    return (scaled,)

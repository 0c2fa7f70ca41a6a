"""Liger's head fused with the loss (liger_kernel 0.8.5 ops/fused_linear_cross_entropy.py).

Both gradients are computed in the forward pass, chunk by chunk of tokens, and kept for the backward.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.ops.linear import Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

LOSS = "logits and loss"


def liger_head(tape: Tape, hidden: Tensor, head: Weights, *, accumulates: bool) -> Tensor:
    """The loss of hidden states [B, S, H].

    `accumulates`: the card adds a chunk's product to the weight's gradient in the product's kernel, which needs compute
    capability 8.0.
    """
    weight = head.weight
    tokens, vocabulary, width = hidden.numel // hidden.shape[-1], weight.shape[0], weight.shape[1]
    rows = hidden.as_shape((tokens, width))
    padded = tape.empty((hidden.shape[0], hidden.shape[1] + 1), "int64", "pad")
    labels = tape.empty((tokens,), "int64", "shifted labels")
    gradients = [tape.empty((tokens, width), hidden.dtype, "liger grad_input", LOSS)]
    if weight.requires_grad:
        gradients.append(tape.empty(weight.shape, weight.dtype, "liger grad_weight", LOSS))
    losses = tape.empty((tokens,), "float32", "losses", LOSS)
    mask = tape.empty((tokens,), "bool", "label mask")
    size = chunk_tokens(tokens, vocabulary, width)
    # products into given memory leave autocast aside: only where it would change nothing
    direct = hidden.dtype == weight.dtype and tape.autocast in (None, hidden.dtype)
    buffer = tape.empty((size, vocabulary), hidden.dtype, "liger logits", LOSS) if direct else None
    with tape.grad_mode(enabled=False):
        for start in range(0, tokens, size):
            part = Tensor((min(size, tokens - start), width), hidden.dtype, None)
            _chunk(tape, part, head, buffer, accumulates=accumulates)
    del buffer, mask, losses, labels, padded
    return tape.apply("liger loss", (rows, weight), (1,), "float32", _kept, save=gradients)


def chunk_tokens(tokens: int, vocabulary: int, width: int) -> int:
    """Tokens of a chunk: as many as make its logits about as large as all hidden states, a power of two."""
    chunks = -(-vocabulary // width)
    return min(tokens, 1 << (-(-tokens // chunks) - 1).bit_length())


def _chunk(tape: Tape, rows: Tensor, head: Weights, buffer: Tensor | None, *, accumulates: bool) -> None:
    weight = head.weight
    logits = buffer if buffer is not None else _product(tape, rows, weight)
    dtype = logits.dtype
    if buffer is None:
        back = tape.empty(rows.shape, tape.lower(weight).dtype, "linear", LOSS)
        del back
    if not weight.requires_grad:
        return
    if accumulates and DTYPE_BYTES[dtype] == 2 and weight.dtype in ("float32", dtype):
        narrow = tape.to(rows, dtype)
        del narrow
        return
    product = tape.empty(weight.shape, dtype, "linear", LOSS)
    wide = tape.to(product, "float32")
    del product, wide


def _product(tape: Tape, rows: Tensor, weight: Tensor) -> Tensor:
    """`rows @ weight.T` under autocast, which casts the transposed view at every use."""
    dtype = tape.autocast or weight.dtype
    matrix = weight if weight.dtype == dtype else tape.empty(weight.shape, dtype, "to", LOSS)
    narrow = rows if rows.dtype == dtype else tape.empty(rows.shape, dtype, "to", LOSS)
    logits = tape.empty((rows.shape[0], weight.shape[0]), dtype, "liger logits", LOSS)
    del matrix, narrow
    return logits


def _kept(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The gradients of the forward pass, scaled where they lie."""
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    return (saved[0] if node.needs(0) else None, saved[1] if node.needs(1) else None)

"""Liger's head fused with the loss (liger_kernel 0.8.5 ops/fused_linear_cross_entropy.py).

Both gradients are computed in the forward pass, chunk by chunk of tokens, and kept for the backward.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.softmax import shifted_copy
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

LOSS = "logits and loss"
BUFFERED_FROM = (0, 8, 3)
"""Since then a chunk's logits lie in one buffer; before, those of the last chunk lived until the next were there."""
SHIFTED_UNTIL = (0, 5, 6)
"""Before this version hidden states without the last position were copied; since then the labels are shifted."""
WIDENED_UNTIL = (0, 5)
"""Before this version the logits of a chunk were made float32 and narrowed again."""
SCALED_UNTIL = (0, 5, 3)
"""Before this version their gradient was scaled into a copy."""
ADDED_UNTIL = (0, 6, 2)
"""Before this version a chunk's product was added to the weight's gradient in one kernel, in the inputs' dtype."""
ADDED_FROM = (0, 8, 1)
"""Since then float32 gradients are added to so again; 16-bit ones since the logits have a buffer."""


def liger_head(tape: Tape, hidden: Tensor, head: Weights, liger: tuple[int, ...], *, accumulates: bool) -> Tensor:
    """The loss of hidden states [B, S, H] in a version of liger-kernel.

    `accumulates`: the card adds a chunk's product to the weight's gradient in the product's kernel, which needs compute
    capability 8.0.
    """
    weight = head.weight
    vocabulary, width = weight.shape
    padded = None
    if liger < SHIFTED_UNTIL:
        hidden = shifted_copy(tape, hidden)
    else:
        padded = tape.empty((hidden.shape[0], hidden.shape[1] + 1), "int64", "pad")
    tokens = hidden.numel // width
    rows = hidden.as_shape((tokens, width))
    labels = tape.empty((tokens,), "int64", "shifted labels")
    gradients = [tape.empty((tokens, width), hidden.dtype, "liger grad_input", LOSS)]
    if weight.requires_grad:
        gradients.append(tape.empty(weight.shape, weight.dtype, "liger grad_weight", LOSS))
    losses = tape.empty((tokens,), "float32", "losses", LOSS)
    mask = tape.empty((tokens,), "bool", "label mask")
    size = chunk_tokens(tokens, vocabulary, width)
    parts = [Tensor((min(size, tokens - start), width), hidden.dtype, None) for start in range(0, tokens, size)]
    with tape.grad_mode(enabled=False):
        if liger >= BUFFERED_FROM:
            _buffered(tape, parts, weight, accumulates=accumulates)
        else:
            _unbuffered(tape, parts, weight, liger, accumulates=accumulates)
    del mask, losses, labels, padded
    return tape.apply("liger loss", (rows, weight), (1,), "float32", _kept, save=gradients)


def chunk_tokens(tokens: int, vocabulary: int, width: int) -> int:
    """Tokens of a chunk: as many as make its logits about as large as all hidden states, a power of two."""
    chunks = -(-vocabulary // width)
    return min(tokens, 1 << (-(-tokens // chunks) - 1).bit_length())


def _buffered(tape: Tape, parts: Sequence[Tensor], weight: Tensor, *, accumulates: bool) -> None:
    # products into given memory leave autocast aside: only where it would change nothing
    direct = parts[0].dtype == weight.dtype and tape.autocast in (None, weight.dtype)
    shape = (parts[0].shape[0], weight.shape[0])
    buffer = tape.empty(shape, weight.dtype, "liger logits", LOSS) if direct else None
    for rows in parts:
        logits = buffer if buffer is not None else _product(tape, rows, weight)
        if buffer is None:
            _hidden_gradient(tape, rows, weight)
        if weight.requires_grad:
            _weight_gradient(
                tape, rows, weight, logits.dtype, fused=accumulates and weight.dtype in ("float32", logits.dtype)
            )
        del logits


def _unbuffered(
    tape: Tape, parts: Sequence[Tensor], weight: Tensor, liger: tuple[int, ...], *, accumulates: bool
) -> None:
    """Names hold the last chunk's logits, and their scaled copy, while the next are computed."""
    logits = scaled = None
    for rows in parts:
        logits = _product(tape, rows, weight)
        dtype = logits.dtype
        if liger < WIDENED_UNTIL:
            logits = tape.to(logits, "float32")
            logits = tape.to(logits, dtype)
        scaled = tape.empty(logits.shape, dtype, "mul", LOSS) if liger < SCALED_UNTIL else logits
        _hidden_gradient(tape, rows, weight)
        if not weight.requires_grad:
            continue
        if liger < ADDED_UNTIL:
            narrow = tape.to(logits, rows.dtype)
            del narrow
        else:
            fused = accumulates and liger >= ADDED_FROM and weight.dtype == "float32"
            _weight_gradient(tape, rows, weight, dtype, fused=fused)
    del logits, scaled


def _hidden_gradient(tape: Tape, rows: Tensor, weight: Tensor) -> None:
    """`grad_logits @ weight`, which is then copied to where it belongs."""
    matrix = tape.lower(weight)
    product = tape.empty(rows.shape, matrix.dtype, "linear", LOSS)
    del product, matrix


def _weight_gradient(tape: Tape, rows: Tensor, weight: Tensor, dtype: str, *, fused: bool) -> None:
    """Add a chunk's product, of `dtype` like its logits, to the weight's gradient: `fused`, or by a float32 copy."""
    narrow = tape.to(rows, dtype)
    if fused and DTYPE_BYTES[dtype] == 2:
        return
    product = tape.empty(weight.shape, dtype, "linear", LOSS)
    del narrow
    wide = tape.to(product, "float32")
    del product, wide


def _product(tape: Tape, rows: Tensor, weight: Tensor) -> Tensor:
    """`rows @ weight.T`; autocast casts the transposed view at every use."""
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

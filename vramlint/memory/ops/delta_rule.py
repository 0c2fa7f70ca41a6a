"""Linear attention by the gated delta rule in plain operators, as it runs without the package `fla`.

transformers 5.23 models/qwen3_next/modeling_qwen3_next.py, torch_chunk_gated_delta_rule. Everything is float32, in
chunks of the sequence: what holds within them is computed at once, what passes from one to the next in a loop.
Queries, keys and values are [B, heads, S, d].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise as pairs_of

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.chunks import (
    CHUNK,
    column,
    cumulated,
    cut_backward,
    filled,
    interleaved,
    normalised,
    pad_to,
    steps,
)
from vramlint.memory.ops.indexing import masked_fill
from vramlint.memory.ops.linear import matmul
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor

Results = Sequence["Tensor | None"]


def delta_rule(
    tape: Tape, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor, *, keeps: bool
) -> tuple[Tensor, Tensor | None]:
    """What comes out [B, heads, S, d] in the queries' dtype, and the last state if it `keeps` it.

    `decay` and `beta` are [B, heads, S].
    """
    dtype, (batch, heads, length, width) = query.dtype, value.shape
    size = query.shape[3]
    by_channel = key.shape[1] == heads  # as the convolution left them, sequence last, until something copies them
    query, key, value, decay, beta = _prepared(tape, query, key, value, decay, beta)
    whole = query.heads_first
    v_beta = e.mul(tape, value, column(tape, beta))
    k_beta = e.mul(tape, key, column(tape, beta))
    padded, count = value.shape[2], value.shape[2] // CHUNK
    chunks, square = (batch, heads, count, CHUNK), (batch, heads, count, CHUNK, CHUNK)
    query, key = [shaping.viewed(tape, x, (*chunks, size)) for x in (query, key)]
    k_beta, v_beta = _chunked(tape, k_beta, (*chunks, size)), _chunked(tape, v_beta, (*chunks, width))
    tape.scratch((CHUNK * CHUNK,), "ones")
    mask = tape.empty((CHUNK, CHUNK), "bool", "triu")
    total = cumulated(tape, shaping.viewed(tape, decay, chunks))
    pairwise = e.sub(tape, column(tape, total), shaping.viewed(tape, total, (batch, heads, count, 1, CHUNK)))
    pairwise = masked_fill(tape, pairwise, mask)
    pairwise = e.unary_of_result(tape, "exp", pairwise)
    system = e.mul(tape, _product(tape, k_beta, key, square, whole=whole), pairwise)
    within = e.mul(tape, _product(tape, query, key, square, whole=whole), pairwise)
    decayed = e.mul(tape, k_beta, column(tape, e.unary_of_result(tape, "exp", total)))
    news = _solved(tape, system, v_beta)
    reads = _solved(tape, system, decayed)
    taken_by_step = steps(count)
    state = tape.empty((taken_by_step[0] * batch, heads, size, width), "float32", "zeros")
    out = tape.empty(news.shape, "float32", "zeros_like")
    query = e.mul(tape, query, column(tape, e.unary_of_result(tape, "exp", total)))
    key = e.mul(tape, key, column(tape, _remaining(tape, total)))
    passes = e.unary_of_result(tape, "exp", shaping.part(tape, total, chunks[:3]))
    whole = whole or by_channel or batch == 1
    for taken, following in pairs_of((*taken_by_step, taken_by_step[-1])):
        rows = (taken * batch, heads, CHUNK, width)
        read = matmul(tape, _chunk(tape, reads, taken), state, rows)
        new = e.sub(tape, _chunk(tape, news, taken), read)
        del read
        across = matmul(tape, _chunk(tape, query, taken, whole=whole), state, rows)
        out = filled(tape, out, e.add(tape, across, matmul(tape, _chunk(tape, within, taken), new, rows)))
        kept = e.mul(tape, state, shaping.part(tape, passes, (following * batch, heads, 1, 1)))
        state = e.add(tape, kept, matmul(tape, _chunk(tape, key, taken, whole=whole), new, kept.shape))
        del kept
    last = shaping.part(tape, state, (batch, heads, size, width)) if keeps else None
    del state
    out = e.clone(tape, out).as_shape((batch, heads, padded, width))  # reshaped, it was stored column by column
    return _cut(tape, out, length, dtype), last


def _prepared(tape: Tape, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """All of them in float32 and padded to whole chunks; queries and keys are normalised, one for every value."""
    batch, heads, length, _ = value.shape
    if key.shape[1] != heads:
        query = interleaved(tape, query, heads)
        key = interleaved(tape, key, heads)
    query, key, value, beta = [_widened(tape, x) for x in (query, key, value, beta)]
    query = normalised(tape, query)
    key = normalised(tape, key)
    query = e.linear_unary(tape, "mul", query)
    padded = -(-length // CHUNK) * CHUNK
    query, key, value = [pad_to(tape, x, (batch, heads, padded, x.shape[3])) for x in (query, key, value)]
    beta, decay = [pad_to(tape, x, (batch, heads, padded)) for x in (beta, decay)]
    return query, key, value, decay, beta


def _cut(tape: Tape, out: Tensor, length: int, dtype: str) -> Tensor:
    """`out[:, :, :length].transpose(1, 2).to(dtype, memory_format=torch.contiguous_format)`."""
    if out.shape[2] > length:
        out = shaping.part(tape, out, (*out.shape[:2], length, out.shape[3]))
    out.heads_first = True
    result = tape.to(out, dtype)
    result.heads_first = result is out
    return result


def _widened(tape: Tape, x: Tensor) -> Tensor:
    """`x.to(torch.float32, memory_format=torch.contiguous_format)`: a copy only of another dtype."""
    out = tape.to(x, "float32")
    if out is not x:
        out.heads_first = True
    return out


def _remaining(tape: Tape, total: Tensor) -> Tensor:
    """`(total[..., -1:] - total).exp()`."""
    return e.unary_of_result(tape, "exp", e.sub(tape, shaping.part(tape, total, (*total.shape[:3], 1)), total))


def _chunked(tape: Tape, x: Tensor, shape: Shape) -> Tensor:
    """A view by chunks, the gradient of which solve_triangular has left column by column."""
    out = shaping.viewed(tape, x, shape)
    if out.node is not None and out.node is not x.node:
        out.node.backward = cut_backward
    return out


def _solved(tape: Tape, system: Tensor, x: Tensor) -> Tensor:
    """`torch.linalg.solve_triangular(system, x)`: keeps the system and the result."""
    return tape.apply(
        "solve_triangular", (system, x), x.shape, x.dtype, _solved_backward, save=(system,), save_output=True
    )


def _solved_backward(tape: Tape, node: Node, gradients: Gradients) -> Results:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None)
    right = e.like(tape, gradient, "solve_triangular backward")
    left = None
    if node.needs(0):
        left = e.like(tape, saved[0], "matmul")
        left = e.like(tape, left, "neg")
        left = e.like(tape, left, "tril")
    del saved
    return (left, right if node.needs(1) else None)


def _chunk(tape: Tape, x: Tensor, taken: int, *, whole: bool = True) -> Tensor:
    """`x[:, :, i]`, which a product copies unless it can see batch and heads as one dimension."""
    out = shaping.part(tape, x, (taken * x.shape[0], x.shape[1], *x.shape[3:]))
    return out if whole else e.clone(tape, out)


def _product(tape: Tape, a: Tensor, b: Tensor, shape: Shape, *, whole: bool) -> Tensor:
    """`a @ b.transpose(-1, -2)`, which copies both unless it can see batch, heads and chunks as one dimension."""
    return matmul(tape, a, b, shape) if whole else matmul(tape, e.clone(tape, a), e.clone(tape, b), shape)

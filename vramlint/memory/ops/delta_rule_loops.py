"""The gated delta rule as transformers had it before version 5.17: what holds within chunks is found row by row.

transformers 4.57 models/qwen3_next/modeling_qwen3_next.py, torch_chunk_gated_delta_rule. Names of one turn of a loop
live until the next one takes them.
"""

from __future__ import annotations

from itertools import pairwise as pairs_of

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.chunks import CHUNK, column, cumulated, filled, interleaved, normalised, pad_to, steps
from vramlint.memory.ops.indexing import masked_fill, masked_fill_in_place
from vramlint.memory.ops.linear import matmul
from vramlint.memory.ops.selection import spread_sum
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


def looped_delta_rule(
    tape: Tape, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor, *, keeps: bool
) -> tuple[Tensor, Tensor | None]:
    """What comes out [B, heads, S, d] in the queries' dtype, and the last state if it `keeps` it.

    `decay` and `beta` are [B, heads, S].
    """
    heads = value.shape[1]
    if key.shape[1] != heads:
        query = interleaved(tape, query, heads)
        key = interleaved(tape, key, heads)
        tape.held += [query, key]
    return _ruled(tape, query, key, value, decay, beta, keeps=keeps)


def _ruled(
    tape: Tape, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor, *, keeps: bool
) -> tuple[Tensor, Tensor | None]:
    """torch_chunk_gated_delta_rule, whose names live until it returns."""
    dtype, length = query.dtype, value.shape[2]
    query, key, value, decay, beta = _prepared(tape, query, key, value, decay, beta)
    batch, heads, padded, width = value.shape
    size, count = query.shape[3], padded // CHUNK
    chunks = (batch, heads, count, CHUNK)
    v_beta = e.mul(tape, value, column(tape, beta))
    k_beta = e.mul(tape, key, column(tape, beta))
    query, key, k_beta = [shaping.viewed(tape, x, (*chunks, size)) for x in (query, key, k_beta)]
    v_beta = shaping.viewed(tape, v_beta, (*chunks, width))
    mask = _triangle(tape)
    total = cumulated(tape, shaping.viewed(tape, decay, chunks))
    del decay
    pairwise = _pairwise(tape, total)
    within, *lingering = _inverted(tape, k_beta, key, pairwise, mask)
    value = matmul(tape, within, v_beta, v_beta.shape)
    decayed = _times(tape, k_beta, e.unary_of_result(tape, "exp", total))
    reads = matmul(tape, within, decayed, k_beta.shape)
    del decayed
    taken_by_step = steps(count)
    state = tape.empty((taken_by_step[0] * batch, heads, size, width), value.dtype, "zeros")
    out = tape.empty(value.shape, value.dtype, "zeros_like")
    mask = _triangle(tape)
    new = read = across = None
    for taken, following in pairs_of((*taken_by_step, taken_by_step[-1])):
        rows = (taken * batch, heads, CHUNK)
        q, k, v = [shaping.part(tape, x, (*rows, x.shape[4])) for x in (query, key, value)]
        within = masked_fill_in_place(
            tape, e.mul(tape, matmul(tape, q, k, (*rows, CHUNK)), shaping.part(tape, pairwise, (*rows, CHUNK))), mask
        )
        read = matmul(tape, shaping.part(tape, reads, (*rows, size)), state, (*rows, width))
        new = e.sub(tape, v, read)
        passed = _times(tape, q, e.unary_of_result(tape, "exp", shaping.part(tape, total, rows)))
        across = matmul(tape, passed, state, (*rows, width))
        del passed
        out = filled(tape, out, e.add(tape, across, matmul(tape, within, new, (*rows, width))))
        kept = e.mul(tape, state, e.unary_of_result(tape, "exp", _last(tape, total, (following * batch, heads, 1, 1))))
        remembered = _remembered(tape, k, total)
        gained = matmul(tape, remembered, new, kept.shape)
        del remembered
        state = e.add(tape, kept, gained)
        del kept, gained
    last = state if keeps else None
    del state
    result = out.as_shape((batch, heads, padded, width))
    if padded > length:
        result = shaping.part(tape, result, (batch, heads, length, width))
    result = tape.to(e.clone(tape, result), dtype)
    del within, new, read, across, lingering, beta
    return result, last


def _prepared(tape: Tape, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    """All of them in float32 and padded to whole chunks; queries and keys are normalised before that."""
    batch, heads, length, _ = value.shape
    query = normalised(tape, query)
    key = normalised(tape, key)
    query, key, value, beta, decay = [_widened(tape, x) for x in (query, key, value, beta, decay)]
    padded = -(-length // CHUNK) * CHUNK
    query = pad_to(tape, query, (batch, heads, padded, query.shape[3]))
    key = pad_to(tape, key, (batch, heads, padded, key.shape[3]))
    value = pad_to(tape, value, (batch, heads, padded, value.shape[3]))
    beta = pad_to(tape, beta, (batch, heads, padded))
    decay = pad_to(tape, decay, (batch, heads, padded))
    return e.linear_unary(tape, "mul", query), key, value, decay, beta


def _widened(tape: Tape, x: Tensor) -> Tensor:
    """`x.transpose(1, 2).contiguous().to(torch.float32)`."""
    out = tape.to(e.clone(tape, x), "float32")
    out.heads_first = True
    return out


def _triangle(tape: Tape) -> Tensor:
    """`torch.triu(torch.ones(…))`."""
    tape.scratch((CHUNK * CHUNK,), "ones")
    return tape.empty((CHUNK, CHUNK), "bool", "triu")


def _pairwise(tape: Tape, total: Tensor) -> Tensor:
    """The decay between any two positions of a chunk."""
    row = shaping.viewed(tape, total, (*total.shape[:3], 1, CHUNK))
    lower = e.linear_unary(tape, "tril", e.sub(tape, column(tape, total), row))
    return e.linear_unary(tape, "tril", e.unary_of_result(tape, "exp", lower))


def _inverted(tape: Tape, k_beta: Tensor, key: Tensor, pairwise: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inverse of a triangular matrix, of which every row follows from those above it; the last row and those."""
    products = matmul(tape, k_beta, key, pairwise.shape)
    weighted = e.mul(tape, products, pairwise)
    del products
    lower = masked_fill(tape, weighted, mask)
    del weighted
    out = e.linear_unary(tape, "neg", lower)
    del lower
    front = out.shape[:3]
    row = above = out
    for at in range(1, CHUNK):
        row = e.clone(tape, shaping.part(tape, shaping.part(tape, out, (*front, CHUNK)), (*front, at)))
        above = e.clone(tape, shaping.part(tape, shaping.part(tape, out, (*front, at, CHUNK)), (*front, at, at)))
        total = spread_sum(tape, e.mul(tape, column(tape, row), above), (*front, at))
        out = filled(tape, out, e.add(tape, row, total))
        del total
    return e.add(tape, out, tape.empty((CHUNK, CHUNK), out.dtype, "eye")), row, above


def _times(tape: Tape, x: Tensor, factors: Tensor) -> Tensor:
    """`x * factors.unsqueeze(-1)`."""
    return e.mul(tape, x, column(tape, factors))


def _last(tape: Tape, total: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`total[:, :, i, -1]` with further dimensions."""
    rows = (*shape[:2], CHUNK)
    return shaping.viewed(tape, shaping.part(tape, shaping.part(tape, total, rows), shape[:2]), shape)


def _remembered(tape: Tape, key: Tensor, total: Tensor) -> Tensor:
    """Keys of a chunk, decayed until its end."""
    rows = key.shape[:3]
    rest = e.sub(tape, _last(tape, total, (*rows[:2], 1)), shaping.part(tape, total, rows))
    return _times(tape, key, e.unary_of_result(tape, "exp", rest))

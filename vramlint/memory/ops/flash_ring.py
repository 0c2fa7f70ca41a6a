"""Attention of ranks that share a sequence by ring-flash-attn 0.1.8, as axolotl puts it in flash attention's place.

The last rank is followed, whose queries meet all keys. What flash attention's kernels hold: flash-attention 2.8
csrc/flash_attn/flash_api.cpp, mha_bwd and mha_varlen_bwd.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

WIDE = "float32"
_ROWS, _COLUMNS = 128, 32
"""To which the kernels round the length, and the size of a head."""


class Slices(Struct, frozen=True):
    """How many ranks, and how many heads of keys they gather at a time (heads_k_stride)."""

    ranks: int
    heads: int


def gathered(tape: Tape, q: Tensor, k: Tensor, v: Tensor, ranks: int, stride: int = 1) -> Tensor:
    """llama3_flash_attn_varlen_func: keys and values of all ranks, `stride` heads at a time, the next ones under way.

    Raises:
        NotFollowedError: several rows, or a stride that the library refuses.
    """
    batch, heads, part, _ = q.shape
    if batch > 1 or k.shape[1] % stride:
        how = f"{batch} rows with {k.shape[1]} heads of keys, {stride} at a time"
        raise NotFollowedError(f"a shared sequence of {how}, which ring-flash-attn refuses,")
    held = _slices(tape, k, Slices(ranks, stride))
    pieces = tape.empty(q.shape, q.dtype, "flash attention", "temporaries")
    logs = tape.empty((heads, part), WIDE, "logsumexp", "temporaries")
    out = _kept(tape, (q, k, v), "gathered", Slices(ranks, stride))
    del held, pieces, logs
    return out


def ring(tape: Tape, q: Tensor, k: Tensor, v: Tensor, ranks: int) -> Tensor:
    """ring_flash_attn_func: keys and values go round; the parts of the output are added up in float32."""
    held: dict[str, Tensor] = {}
    for step in range(ranks):
        _passed(tape, held, (k, v), k.dtype, last=step + 1 == ranks)
        held["block"] = tape.empty(q.shape, q.dtype, "flash attention", "temporaries")
        wide = tape.empty(q.shape, WIDE, "ring attention in float32", "temporaries")
        if step:
            difference = tape.empty(q.shape, WIDE, "ring difference", "temporaries")
            del wide  # a script lets go of what it does not use any more
            product = tape.empty(q.shape, WIDE, "ring product", "temporaries")
            del difference
            held["sum"] = tape.empty(q.shape, WIDE, "ring sum", "temporaries")
            del product
        else:
            held["sum"] = wide
            del wide
    out = _kept(tape, (q, k, v), "ring", Slices(ranks, k.shape[1]))
    held.clear()
    return out


def _passed(tape: Tape, held: dict[str, Tensor], tensors: Sequence[Tensor], dtype: str, *, last: bool) -> None:
    """What the rank before sends takes the place of what it sent before that."""
    for number in range(len(tensors)):
        if f"next {number}" in held:
            held[f"here {number}"] = held.pop(f"next {number}")
    for number, x in enumerate(tensors if not last else ()):
        held[f"next {number}"] = tape.empty(x.shape, dtype, "received", "communication buffers")


def _kept(tape: Tape, inputs: tuple[Tensor, Tensor, Tensor], form: str, slices: Slices) -> Tensor:
    """The output, which is kept with the inputs; it lies positions first."""
    q = inputs[0]
    logsumexp = ((q.shape[0], q.shape[1], q.shape[2]), WIDE, "logsumexp")
    backward = _ring_backward if form == "ring" else _gathered_backward
    return tape.apply(
        "flash attention", inputs, q.shape, q.dtype, backward, save=inputs, results=(logsumexp,), save_output=True,
        context=slices,
    )  # fmt: skip


def _slices(tape: Tape, k: Tensor, slices: Slices) -> list[Tensor]:
    """Two buffers for keys and values of all ranks, and what the rank sends for them."""
    batch, _, part, size = k.shape
    whole = (2, batch, part * slices.ranks, slices.heads, size)
    sent = (batch, part, slices.heads, size)
    buffers = [tape.empty(whole, k.dtype, "all gather", "communication buffers") for _ in range(2)]
    return [*buffers, *(tape.empty(sent, k.dtype, "contiguous", "communication buffers") for _ in range(4))]


def _gathered_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    if gradients[0] is None:
        return (None, None, None)
    q, k, v = saved[:3]
    slices: Slices = node.context
    batch, kept, part, size = k.shape
    whole = (2, batch, part * slices.ranks, slices.heads, size)
    buffers = [tape.empty(whole, k.dtype, "all gather", "communication buffers") for _ in range(3)]
    if slices.heads != kept:
        shape = (2, batch, part, slices.heads, size)
        buffers.append(tape.empty(shape, k.dtype, "contiguous", "communication buffers"))
    results = [tape.empty(x.shape, x.dtype, "flash backward") for x in (q, k, v)]
    sent = (batch, part, slices.heads, size)
    buffers += [tape.empty(sent, k.dtype, "contiguous", "communication buffers") for _ in range(4)]
    heads = slices.heads * q.shape[1] // kept
    _inside(tape, (heads, part + _ROWS, size), (heads, part * slices.ranks) if heads != slices.heads else None, q.dtype)
    del buffers, saved, q, k, v
    return results


def _ring_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    if gradients[0] is None:
        return (None, None, None)
    q, k, v = saved[:3]
    slices: Slices = node.context
    blocks = [tape.empty(x.shape, x.dtype, "flash backward", "temporaries") for x in (q, k, v)]
    held: dict[str, Tensor] = {}
    grads: dict[str, Tensor] = {}
    batch, kept, part, size = k.shape
    rows = batch * -(-part // _ROWS) * _ROWS
    for step in range(slices.ranks):
        _passed(tape, held, (k, v), k.dtype, last=step + 1 == slices.ranks)
        expanded = (q.shape[1], batch * part) if q.shape[1] != kept else None
        _inside(tape, (q.shape[1], rows, size), expanded, q.dtype)
        if not step:
            grads = {name: tape.empty(x.shape, WIDE, "ring gradient", "temporaries") for name, x in (("q", q),)}
        for name, x in (("k", k), ("v", v)):
            grads[name] = tape.empty(x.shape, WIDE, "ring gradient", "temporaries")
        for name, x in (("k", k), ("v", v)):
            grads[f"next {name}"] = tape.empty(x.shape, WIDE, "received", "communication buffers")
    results = [tape.empty(x.shape, x.dtype, "to") for x in (q, k, v)]
    held.clear()
    grads.clear()
    del blocks, saved, q, k, v
    return results


def _inside(tape: Tape, queries: tuple[int, int, int], keys: tuple[int, int] | None, dtype: str) -> None:
    """What flash attention's backward holds while it runs: of (heads, rows, size) of queries, (heads, rows) of keys."""
    heads, rows, size = queries
    columns = -(-size // _COLUMNS) * _COLUMNS
    held = [
        tape.empty((heads, rows), WIDE, "flash softmax_d", "temporaries"),
        tape.empty((rows, heads, columns), WIDE, "flash dq accumulator", "temporaries"),
    ]
    if keys is not None:  # several queries share a key
        held += [tape.empty((*keys, size), dtype, "flash expanded dk, dv", "temporaries") for _ in range(2)]
    held.clear()

"""Ring attention as DTensor dispatches it to ranks that share a sequence.

torch 2.13 torch/distributed/tensor/experimental/_context_parallel/_attention.py, _templated_ring_attention and its
backward, with the defaults of `_cp_options`: sums in float32, keys and values of all ranks gathered at once, gradients
of keys and values sent round, sequences cut so that every rank has one of the first and one of the last pieces. Rank 0
is followed: it takes the second half of its queries with what other ranks have, and puts the results together anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Result, Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor

_RANDOM_STATE: tuple[Result, Result] = (((2,), "int64", "rng state"), ((1,), "int64", "rng state"))
WIDE = "float32"


def ring_attention(tape: Tape, q: Tensor, k: Tensor, v: Tensor, ranks: int) -> Tensor:
    """Attention of a rank's queries [B, heads, S / ranks, d] to the keys and values of all ranks."""
    batch, heads, length, _ = q.shape
    held = _gathered(tape, k, v, ranks)
    for step in range(ranks):
        _merged(tape, held, q, step)
    held.clear()
    results = (((batch, heads, length), WIDE, "logsumexp"), *_RANDOM_STATE)
    inputs = (q, k, v)
    out = tape.apply(
        "flash attention", inputs, q.shape, q.dtype, _backward, save=inputs, results=results, save_output=True,
        context=ranks,
    )  # fmt: skip
    out.heads_first = True
    return out


def with_table(tape: Tape, x: Tensor, size: int) -> Tensor:
    """`x`, with the rows of the rotary table, complex64, that its graph keeps: one for each position of its rows.

    torchtitan 0.2 models/llama3/model/model.py, reshape_for_broadcast: indexed, or gathered where samples are more.
    """
    table = tape.empty((x.shape[0], x.shape[1], size // 2, 2), WIDE, "rotary rows")
    out = x.as_shape(x.shape)
    if x.requires_grad and tape.grad_enabled:
        out.node, out.slot = tape.in_place((table,), (x,), _unchanged), 0
    return out


def _unchanged(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    node.unpack(tape)
    return gradients


def _gathered(tape: Tape, k: Tensor, v: Tensor, ranks: int) -> dict[str, Tensor]:
    """Keys and values copied, joined, and those of all ranks."""
    held = {"k": _like(tape, k), "v": _like(tape, v)}
    joined = _flat(tape, k.numel + v.numel, k.dtype, "joined keys and values")
    held["all"] = _flat(tape, ranks * joined.numel, k.dtype, "all gather")
    del joined
    return held


def _merged(tape: Tape, held: dict[str, Tensor], q: Tensor, step: int) -> None:
    """One step's attention, and the sum of it and of those before (_SDPAMerger)."""
    if step == 1:  # keys and values are views of what was gathered from here on
        del held["k"], held["v"]
    shape = q.shape if step == 0 else _half(q.shape)
    found = tape.empty(shape, q.dtype, "ring attention", "temporaries")
    held["last"] = found
    wide = _wide(tape, shape, "ring attention in float32")
    if step == 0:
        held["sum"] = wide
        return
    difference = _wide(tape, shape, "ring difference")
    product = _wide(tape, shape, "ring product")
    del difference
    part = _wide(tape, shape, "ring part")
    del product
    held["sum"] = _wide(tape, q.shape, "ring sum")
    del wide, part


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None, None)
    q, k, v = saved[:3]
    sums = {name: _wide(tape, x.shape, f"ring gradient of {name}") for name, x in (("q", q), ("k", k), ("v", v))}
    held = _gathered(tape, k, v, node.context)
    for step in range(node.context):
        _step_backward(tape, held, sums, (q, k, v), step)
    held.clear()
    results = [_like(tape, q)]
    travelled = _flat(tape, k.numel + v.numel, k.dtype, "ring gradient")
    sums.clear()
    results += [Tensor(x.shape, x.dtype, travelled.storage) for x in (k, v)]
    for result in results:
        result.heads_first, result.view = True, True
    del saved, q, k, v
    return results


def _step_backward(
    tape: Tape, held: dict[str, Tensor], sums: dict[str, Tensor], inputs: tuple[Tensor, Tensor, Tensor], step: int
) -> None:
    q, k, v = inputs
    if step == 1:
        del held["k"], held["v"]
    shape = q.shape if step == 0 else _half(q.shape)
    found = [tape.empty(x, q.dtype, "flash backward", "temporaries") for x in (shape, k.shape, v.shape)]
    batch, heads, length, size = shape
    tape.scratch((batch * heads * length * 4, batch * heads * length * size * 4), "flash backward")
    if k.shape[1] != heads:
        expanded = 2 * batch * heads * k.shape[2] * size
        tape.scratch((expanded, expanded), "flash backward")
    held |= {"last q": found[0], "last k": found[1], "last v": found[2]}
    found.clear()
    if step:  # what the rank before had is added to in place
        sums.pop("k", None)
        sums.pop("v", None)
        sums["arrived"] = held["sent"]
    joined = _wide(tape, (k.numel + v.numel,), "joined gradients")
    held["sent"] = _wide(tape, (k.numel + v.numel,), "ring gradients")
    del joined
    if step:
        halves = _wide(tape, q.shape, "ring gradient of q")
        sums["q"] = halves


def _half(shape: Shape) -> Shape:
    return (*shape[:2], shape[2] // 2, shape[3])


def _like(tape: Tape, x: Tensor) -> Tensor:
    return tape.empty(x.shape, x.dtype, "contiguous")


def _flat(tape: Tape, elements: int, dtype: str, operator: str) -> Tensor:
    return tape.empty((elements,), dtype, operator, "communication buffers")


def _wide(tape: Tape, shape: Shape, operator: str) -> Tensor:
    return tape.empty(shape, WIDE, operator, "temporaries")

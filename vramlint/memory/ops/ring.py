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
    del held["joined"]
    for step in range(ranks):
        if step:
            _let_go(held)
            if step < ranks - 1:  # what is joined to be sent on, though nothing is
                joined = _joined(tape, k, v)
                del joined
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
    """Keys and values copied, where heads do not come first, joined, and those of all ranks."""
    held = {name: _like(tape, x) for name, x in (("k", k), ("v", v)) if not x.heads_first}
    held["joined"] = _joined(tape, k, v)
    held["all"] = _flat(tape, ranks * held["joined"].numel, k.dtype, "all gather")
    return held


def _joined(tape: Tape, k: Tensor, v: Tensor) -> Tensor:
    return _flat(tape, k.numel + v.numel, k.dtype, "joined keys and values")


def _merged(tape: Tape, held: dict[str, Tensor], q: Tensor, step: int) -> None:
    """One step's attention, and the sum of it and of those before (_SDPAMerger)."""
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
        if step:
            _let_go(held)
            if step < node.context - 1:
                held["joined"] = _joined(tape, k, v)
        _step_backward(tape, held, sums, (q, k, v), step)
    results = [_like(tape, q)]
    travelled = _flat(tape, k.numel + v.numel, k.dtype, "ring gradient")
    held.clear()
    sums.clear()
    results += [Tensor(x.shape, x.dtype, travelled.storage) for x in (k, v)]
    for result in results:
        result.heads_first, result.view = True, True
    del saved, q, k, v
    return results


def _step_backward(
    tape: Tape, held: dict[str, Tensor], sums: dict[str, Tensor], inputs: tuple[Tensor, Tensor, Tensor], step: int
) -> None:
    """One step: names keep what they had until they are given something else, what was joined to be sent as well."""
    q, k, v = inputs
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
        del held["joined gradients"]
        sums.pop("k", None)
        sums.pop("v", None)
        sums["arrived"] = held["sent"]
    held["joined gradients"] = _wide(tape, (k.numel + v.numel,), "joined gradients")
    held["sent"] = _wide(tape, (k.numel + v.numel,), "ring gradients")
    if step:
        halves = _wide(tape, q.shape, "ring gradient of q")
        sums["q"] = halves


def _let_go(held: dict[str, Tensor]) -> None:
    """Keys and values are views of what was gathered from the second step on."""
    held.pop("k", None)
    held.pop("v", None)


def _half(shape: Shape) -> Shape:
    return (*shape[:2], shape[2] // 2, shape[3])


def _like(tape: Tape, x: Tensor) -> Tensor:
    return tape.empty(x.shape, x.dtype, "contiguous")


def _flat(tape: Tape, elements: int, dtype: str, operator: str) -> Tensor:
    return tape.empty((elements,), dtype, operator, "communication buffers")


def _wide(tape: Tape, shape: Shape, operator: str) -> Tensor:
    return tape.empty(shape, WIDE, operator, "temporaries")

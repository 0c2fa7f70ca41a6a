"""litgpt's fused projection of queries, keys and values, and the adapter on some of them (litgpt 0.5 lora.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear, matmul_weight
from vramlint.memory.ops.low_rank import LowRank
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Tensor

if TYPE_CHECKING:
    from vramlint.memory.weights import Builder

PARTS = ("query", "key", "value")
Norms = tuple[Callable[[Tape, Tensor], Tensor] | None, Callable[[Tape, Tensor], Tensor] | None]
"""Norms of queries and keys; None: none."""


class GroupedWeights(Struct):
    """LoRAQKVLinear: one matrix for all heads; A of all enabled parts, B of each below the other."""

    base: Weights
    adapter: LowRank | None
    complete: bool
    """The adapter is on all three parts."""
    heads: int
    groups: int
    size: int


def build(builder: Builder, name: str, width: int, size: int, heads: tuple[int, int], *, bias: bool) -> GroupedWeights:
    """The projection of `width` features to `heads` = (query heads, key and value heads) of `size` features."""
    queries, keys = (count * size for count in heads)
    base = builder.linear(name, width, queries + 2 * keys, bias=bias)
    adapted, sizes = builder.adapted, (queries, keys, keys)
    outputs = [n for part, n in zip(PARTS, sizes, strict=True) if adapted.reaches(f"{name}.{part}")]
    adapter = adapted.low_rank(name, width, sum(outputs), count=len(outputs)) if outputs else None
    return GroupedWeights(replace(base, adapter=None), adapter, len(outputs) == len(PARTS), *heads, size)


def project(tape: Tape, x: Tensor, weights: GroupedWeights) -> Tensor:
    """`linear(x) + zero_pad(conv1d(lora_A(dropout(x)))) * scaling`."""
    pretrained = linear(tape, x, weights.base)
    adapter = weights.adapter
    if adapter is None:
        return pretrained
    low = matmul_weight(tape, e.dropout(tape, x, adapter.dropout), adapter.a, None)
    update = _convolve(tape, low, adapter.b)
    if weights.heads != weights.groups:
        update = e.clone(tape, update)  # one convolution for every part, concatenated
    if not weights.complete:
        update = _spread(tape, update, pretrained)
    return e.add(tape, pretrained, e.linear_unary(tape, "mul", update))


def _convolve(tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """conv1d of kernel size 1 over [B, T, r·parts]: keeps its input and its weight."""
    shape = (*x.shape[:-1], weight.shape[0])
    return tape.apply("conv1d", (x, weight), shape, x.dtype, _gradients, save=(x, weight))


def _gradients(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    results = [
        None if edge is None or gradient is None else tape.empty(edge[2], gradient.dtype, "conv1d backward")
        for edge in node.edges
    ]
    del saved
    return results


def _spread(tape: Tape, x: Tensor, like: Tensor) -> Tensor:
    """`zeros.index_copy_(-1, index, x)`: autograd keeps x, of which it needs but the shape.

    derivatives.yaml of torch 2.1 and later: `grad.index_select(dim, index).expand_as(source)`.
    """
    return tape.apply("index_copy", (x,), like.shape, x.dtype, _gradients, save=(x,))


def split(
    tape: Tape, qkv: Tensor, weights: GroupedWeights, *, flat: Norms | None = None, by_head: Norms | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, heads, T, size]: views, or copies where key heads are shared.

    `flat` norms work on all heads of a token together, `by_head` ones on each alone.
    """
    size, heads, groups = weights.size, weights.heads, weights.groups
    parts = list(shaping.split_last(tape, qkv, (heads * size, groups * size, groups * size)))
    parts[:2] = _normed(tape, parts, flat)
    if heads == groups:
        q, k, v = (attention.split_heads(tape, part, heads) for part in parts)
        q, k = _normed(tape, (q, k), by_head)
        return q, k, v
    q = e.clone(tape, attention.split_heads(tape, parts[0], heads))
    q.heads_first = True
    k, v = (attention.split_heads(tape, part, groups) for part in parts[1:])
    q, k = _normed(tape, (q, k), by_head)
    k, v = (attention.broadcast_heads(tape, part, heads) for part in (k, v))
    return q, k, v


def _normed(tape: Tape, parts: Sequence[Tensor], norms: Norms | None) -> Sequence[Tensor]:
    pair = zip(parts[:2], norms or (None, None), strict=True)
    return [part if norm is None else norm(tape, part) for part, norm in pair]

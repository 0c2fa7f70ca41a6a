"""Attention heads and the eager formula of transformers.

Tensors are [B, heads, S, d].
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import matmul
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def split_heads(tape: Tape, x: Tensor, heads: int) -> Tensor:
    """[B, S, heads·d] viewed as [B, heads, S, d]. Backward copies a gradient that lies heads-first."""
    batch, length, width = x.shape
    out = x.as_shape((batch, heads, length, width // heads))
    if x.requires_grad and tape.grad_enabled:
        out.node, out.slot = tape.view_node((x,), _split_heads_backward), 0
    return out


def _split_heads_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    if gradient.heads_first:
        return (tape.empty(edge[2], gradient.dtype, "reshape"),)
    return (gradient.as_shape(edge[2]),)


def merge_heads(tape: Tape, x: Tensor) -> Tensor:
    """[B, heads, S, d] as [B, S, heads·d]: a copy when it lies heads-first, else a view."""
    batch, heads, length, size = x.shape
    shape = (batch, length, heads * size)
    return tape.apply("contiguous", (x,), shape, x.dtype, _merge_backward) if x.heads_first else x.as_shape(shape)


def _merge_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    edge = node.edges[0]
    return (None,) if gradient is None or edge is None else (gradient.as_shape(edge[2]),)


def heads_first(tape: Tape, x: Tensor) -> Tensor:
    """The copy that bmm's reshape makes of a transposed view; a batch of one needs none."""
    if x.heads_first or x.shape[0] == 1:
        return x
    out = e.clone(tape, x)
    out.heads_first = True
    return out


def contiguous(tape: Tape, x: Tensor) -> Tensor:
    """`x.contiguous()` of [B, heads, S, d]: a copy of a transposed view of several heads."""
    if x.heads_first or x.shape[1] == 1:
        return x
    out = e.clone(tape, x)
    out.heads_first = True
    return out


def repeat_heads(tape: Tape, x: Tensor, repeats: int) -> Tensor:
    """repeat_kv: a copy of the key or value heads for every query head that shares them; a single head is viewed."""
    if repeats == 1:
        return x
    batch, heads, length, size = x.shape
    if heads == 1:
        return expanded_head(tape, x, repeats)
    out = tape.apply("repeat_kv", (x,), (batch, heads * repeats, length, size), x.dtype, repeat_backward)
    out.heads_first = True
    return out


def expanded_head(tape: Tape, x: Tensor, heads: int) -> Tensor:
    """A single key or value head viewed as `heads` of them; its gradient is the sum of theirs."""
    batch, _, length, size = x.shape
    out = x.as_shape((batch, heads, length, size))
    if x.requires_grad and tape.grad_enabled:
        out.node, out.slot = tape.view_node((x,), repeat_backward), 0
    return out


def broadcast_heads(tape: Tape, x: Tensor, heads: int) -> Tensor:
    """Keys or values expanded to `heads` and brought into one piece: a copy, their backward a sum."""
    batch, _, length, size = x.shape
    out = tape.apply("expand", (x,), (batch, heads, length, size), x.dtype, repeat_backward)
    out.heads_first = True
    return out


def expanded_batch(tape: Tape, x: Tensor, batch: int) -> Tensor:
    """[1, heads, …] expanded to `batch` sequences and brought into one piece: a copy, its backward a sum."""
    shape = (batch, *x.shape[1:])
    out = tape.apply("expand", (x,), shape, x.dtype, repeat_backward)
    out.heads_first = True
    return out


def repeat_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The gradient summed over the copies, or cut back to the unpadded size: one tensor."""
    (gradient,) = gradients
    edge = node.edges[0]
    if gradient is None or edge is None:
        return (None,)
    out = tape.empty(edge[2], gradient.dtype, "repeat_kv backward")
    out.heads_first = True
    return (out,)


def cached(tape: Tape, x: Tensor, dtype: str) -> Tensor:
    """`torch.cat([empty, x], dim=-2)` of an empty tensor of `dtype`: a copy in the wider dtype."""
    wide = dtype if DTYPE_BYTES[dtype] > DTYPE_BYTES[x.dtype] else x.dtype
    out = tape.apply("cat", (x,), x.shape, wide, _cached_backward, component="key/value cache")
    out.heads_first = True
    return out


def _cached_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    return (None if gradient is None else gradient.as_shape(gradient.shape),)


def eager(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    probability: float,
    *,
    softcap: bool = False,
    widens: bool = True,
    narrows: bool = False,
    masks_in_place: bool = False,
) -> Tensor:
    """eager_attention_forward of the llama family: softmax in float32 (models/llama/modeling_llama.py).

    Without `widens` the softmax is taken in the scores' dtype (models/bert/modeling_bert.py), and with `narrows` cast
    to the values' (models/gpt2/modeling_gpt2.py). With `softcap` the scores go through `cap * tanh(scores / cap)`
    (models/gemma2/modeling_gemma2.py). `masks_in_place` says that the mask is added with `+=`.
    """
    repeats = q.shape[1] // k.shape[1]
    k = repeat_heads(tape, k, repeats)
    v = repeat_heads(tape, v, repeats)
    weights = e.linear_unary(tape, "mul", scores(tape, q, k))
    if softcap:
        held = [weights]
        del weights
        weights = e.softcapped(tape, held)
    if mask is not None:
        weights = e.add_in_place(tape, weights, mask) if masks_in_place else e.add(tape, weights, mask)
    weights = (
        tape.to(softmax(tape, weights, in_float32=True), q.dtype)
        if widens
        else softmax(tape, weights, in_float32=False)
    )
    if narrows:
        weights = tape.to(weights, v.dtype)
    weights = e.dropout(tape, weights, probability)
    tape.held.append(weights)  # every layer unpacks them into a name, asked for or not
    return weighted(tape, weights, v)


def scores(tape: Tape, q: Tensor, k: Tensor) -> Tensor:
    """`q @ k.transpose(-1, -2)` for [B, heads, S, d]."""
    q, k = tape.lower(q), tape.lower(k)
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    out = matmul(tape, heads_first(tape, q), heads_first(tape, k), shape)
    out.heads_first = True
    return out


def weighted(tape: Tape, weights: Tensor, v: Tensor) -> Tensor:
    """`weights @ v` for [B, heads, S, S] probabilities: a bmm, whose result is viewed as four-dimensional."""
    weights, v = tape.lower(weights), tape.lower(v)
    product = matmul(tape, weights, heads_first(tape, v), (*weights.shape[:-1], v.shape[3]))
    out = product.as_shape(product.shape)
    out.heads_first = True
    if product.requires_grad and tape.grad_enabled:
        out.node, out.slot = tape.view_node((product,), _product_backward), 0
    return out


def _product_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The gradient as bmm's, [B·heads, S, d]: a copy where it lies positions first, but of a batch of one."""
    (gradient,) = gradients
    if gradient is None or gradient.heads_first or gradient.shape[0] == 1:
        return (gradient,)
    out = tape.empty(gradient.shape, gradient.dtype, "reshape")
    out.heads_first = True
    return (out,)

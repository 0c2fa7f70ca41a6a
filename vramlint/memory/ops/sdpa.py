"""The kernels behind torch's scaled_dot_product_attention.

Tensors are [B, heads, S, d]. Temporaries of kernels are read from their sources (torch 2.13
aten/src/ATen/native/transformers/cuda/attention_backward.cu, flash_attn/flash_api.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.kernels import Kernels
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Result, Tape
from vramlint.memory.tensor import Edge, Gradients, Node, Tensor


def scaled_dot_product(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    probability: float,
    kernels: Kernels,
    *,
    enable_gqa: bool = True,
    strided: bool = False,
) -> Tensor:
    """F.scaled_dot_product_attention as CUDA dispatches it: flash, then memory-efficient, then math.

    Without `enable_gqa` no fused kernel takes fewer key/value heads than query heads. `mask` broadcasts to
    [B, heads, S, S]; every call turns a bool one into an additive bias, and one may need a gradient. `strided`: its
    rows do not lie in one piece, which only math takes (check_last_dim_stride_equals_1_dense).
    """
    q, k, v = tape.lower(q), tape.lower(k), tape.lower(v)
    size, value = q.shape[3], v.shape[3]
    differentiates = tape.grad_enabled and any(x.requires_grad for x in (q, k, v))
    drops = probability > 0
    shares_heads = q.shape[1] != k.shape[1]
    fused = (enable_gqa or not shares_heads) and not strided
    if fused and mask is None and kernels.flash(q.dtype, size, value, differentiates=differentiates, drops=drops):
        return _flash(tape, q, k, v, probability)
    bias = mask
    if mask is not None and mask.requires_grad:
        bias = tape.lower(mask)
    elif mask is not None and mask.dtype != q.dtype:
        bias = tape.empty(mask.shape, q.dtype, "attention bias")
    if fused and kernels.efficient(q.dtype, size, value, shares_heads=shares_heads):
        return _efficient(tape, q, k, v, None if bias is None else _aligned(tape, bias), probability)
    with tape.autocasting(None):
        return _math(tape, q, k, v, bias, probability)


def _aligned(tape: Tape, bias: Tensor) -> Tensor:
    """The additive mask with rows padded to 16 elements, which the kernel's loads need."""
    columns = bias.shape[3]
    if columns % 16 == 0:
        return bias
    padded = _pad_heads(tape, bias, _aligned_columns(columns))
    return shaping.slice_last(tape, padded, columns) if bias.requires_grad else padded


def _aligned_columns(columns: int) -> int:
    return -(-columns // 16) * 16


_RANDOM_STATE: tuple[Result, Result] = (((2,), "int64", "rng state"), ((1,), "int64", "rng state"))
"""Philox seed and offset of a fused kernel."""


def _flash(tape: Tape, q: Tensor, k: Tensor, v: Tensor, probability: float) -> Tensor:
    batch, heads, length, size = q.shape
    padded = -(-size // 8) * 8
    if padded != size:
        q, k, v = (_pad_heads(tape, tensor, padded) for tensor in (q, k, v))
    results = (((batch, heads, length), "float32", "logsumexp"), *_RANDOM_STATE)
    inputs = (q, k, v)
    out = tape.apply(
        "flash attention", inputs, q.shape, q.dtype, _flash_backward, save=inputs, results=results, save_output=True
    )
    out.heads_first = q.heads_first  # the kernel allocates its output like its query
    if padded == size:
        return out
    cut = shaping.slice_last(tape, out, size)
    cut.heads_first = True  # with the padding between them, heads can only be merged by a copy
    return cut


def _pad_heads(tape: Tape, x: Tensor, size: int) -> Tensor:
    return tape.apply("pad", (x,), (*x.shape[:-1], size), x.dtype, attention.repeat_backward)


def _flash_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None, None)
    q, k = saved[0], saved[1]
    batch, heads, length, size = q.shape
    results: list[Tensor | None] = []
    for position, edge in enumerate(node.edges):
        result = tape.empty(edge[2], gradient.dtype, "flash backward") if edge else None
        if result is not None:
            result.heads_first = saved[position].heads_first
        results.append(result)
    rows, columns = -(-length // 128) * 128, -(-size // 32) * 32
    scratch = [
        tape.empty((batch, heads, rows), "float32", "flash softmax_d", "temporaries"),
        tape.empty((batch, rows, heads, columns), "float32", "flash dq accumulator", "temporaries"),
    ]
    if k.shape[1] != heads:
        expanded = (batch, k.shape[2], heads, size)
        scratch += [tape.empty(expanded, q.dtype, "flash expanded dk, dv", "temporaries") for _ in range(2)]
    scratch.clear()
    del saved, q, k
    return results


def _efficient(tape: Tape, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, probability: float) -> Tensor:
    batch, heads, length, _ = q.shape
    size = v.shape[3]
    inputs = [q, k, v]
    results = (((batch, heads, -(-length // 32) * 32), "float32", "logsumexp"), *_RANDOM_STATE)
    if bias is not None and bias.requires_grad:
        bias = e.expanded(tape, bias, (batch, heads, length, k.shape[2]))
        inputs.append(bias)
    save = [q, k, v] if bias is None else [q, k, v, bias]
    if q.dtype != "float32" and size > 128:
        tape.scratch((batch * length * heads * size * 4,), "efficient attention accumulator")
    return tape.apply(
        "efficient attention",
        inputs,
        (batch, heads, length, size),
        q.dtype,
        _efficient_backward,
        save=save,
        results=results,
        save_output=True,
    )


def _efficient_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return [None] * len(node.edges)
    q, _, v = saved[:3]
    batch, heads, length, size = q.shape
    results = [tape.empty(edge[2], gradient.dtype, "efficient backward") if edge else None for edge in node.edges[:3]]
    for edge in node.edges[3:]:
        results.append(_bias_gradient(tape, edge, gradient.dtype))
    scratch = [tape.empty((batch, heads, length), "float32", "efficient delta", "temporaries")]
    if q.dtype != "float32":
        widths = (size, size, v.shape[3]) if max(size, v.shape[3]) > 128 else (size,)
        rows = -(-length // 64) * 64
        for name, width in zip(("dq", "dk", "dv"), widths, strict=False):
            accumulator = (batch * heads, rows, -(-width // 64) * 64)
            scratch.append(tape.empty(accumulator, "float32", f"efficient {name} accumulator", "temporaries"))
    scratch.clear()
    del saved, q, v, _
    return results


def _bias_gradient(tape: Tape, edge: Edge | None, dtype: str) -> Tensor | None:
    """A gradient for every row and head, cut from aligned rows."""
    if edge is None:
        return None
    *rows, columns = edge[2]
    return tape.empty((*rows, _aligned_columns(columns)), dtype, "efficient backward").as_shape(edge[2])


def _math(tape: Tape, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, probability: float) -> Tensor:
    """_scaled_dot_product_attention_math (torch 2.13 aten/src/ATen/native/transformers/attention.cpp).

    16-bit inputs are widened to float32 for the product and the softmax.
    """
    dtype = q.dtype
    q, k, v = tape.to(q, "float32"), tape.to(k, "float32"), tape.to(v, "float32")
    scaled = e.linear_unary(tape, "mul", q)
    if bias is None:
        bias = tape.empty((q.shape[2], k.shape[2]), "float32", "causal mask")
    heads, shared = q.shape[1], k.shape[1]
    if shared > 1:
        k, v = attention.repeat_heads(tape, k, heads // shared), attention.repeat_heads(tape, v, heads // shared)
    weights = attention.scores(tape, scaled, _single_head(tape, e.linear_unary(tape, "mul", k), heads))
    add = e.add if tape.observed else e.add_in_place  # traced tensors are of a subclass, which gets a copy
    weights = add(tape, weights, bias)
    likely = softmax(tape, weights, in_float32=False)
    tape.inside_kernel(weights.numel, "masked scores")  # _safe_softmax looks for rows of which nothing is shown
    weights = likely
    del likely
    weights = e.dropout(tape, weights, probability)
    returned = tape.to(weights, dtype)
    out = attention.weighted(tape, weights, _single_head(tape, v, heads))
    del returned
    return tape.to(out, dtype)


def _single_head(tape: Tape, x: Tensor, heads: int) -> Tensor:
    """Matmul's expansion of one head to `heads`: a copy for bmm unless the batch is 1."""
    if x.shape[1] == heads:
        return x
    expand = attention.broadcast_heads if x.shape[0] > 1 else attention.expanded_head
    return expand(tape, x, heads)

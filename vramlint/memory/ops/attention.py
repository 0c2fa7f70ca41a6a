"""Scaled dot-product attention: the eager formula of transformers and the kernels behind torch's sdpa.

Tensors are [B, heads, S, d]. Temporaries of kernels are read from their sources (torch 2.13
aten/src/ATen/native/transformers/cuda/attention_backward.cu, flash_attn/flash_api.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import matmul
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor

FLASH_MAX_HEAD = 256
"""Largest head size of the flash kernels."""


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


def repeat_heads(tape: Tape, x: Tensor, repeats: int) -> Tensor:
    """repeat_kv: a copy of the key or value heads for every query head that shares them."""
    if repeats == 1:
        return x
    batch, heads, length, size = x.shape
    out = tape.apply("repeat_kv", (x,), (batch, heads * repeats, length, size), x.dtype, _repeat_backward)
    out.heads_first = True
    return out


def _repeat_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
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
    out = tape.apply("cat", (x,), x.shape, wide, _cached_backward)
    out.heads_first = True
    return out


def _cached_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    return (None if gradient is None else gradient.as_shape(gradient.shape),)


def eager(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, probability: float, *, softcap: bool = False
) -> Tensor:
    """eager_attention_forward of the llama family: softmax in float32 (models/llama/modeling_llama.py).

    With `softcap` the scores go through `cap * tanh(scores / cap)` (models/gemma2/modeling_gemma2.py).
    """
    repeats = q.shape[1] // k.shape[1]
    k = repeat_heads(tape, k, repeats)
    v = repeat_heads(tape, v, repeats)
    weights = e.linear_unary(tape, "mul", _scores(tape, q, k))
    if softcap:
        weights = e.softcapped(tape, weights)
    if mask is not None:
        weights = e.add(tape, weights, mask)
    weights = tape.to(softmax(tape, weights, in_float32=True), q.dtype)
    weights = e.dropout(tape, weights, probability)
    return weighted(tape, weights, v)


def _scores(tape: Tape, q: Tensor, k: Tensor) -> Tensor:
    q, k = tape.lower(q), tape.lower(k)
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    out = matmul(tape, heads_first(tape, q), heads_first(tape, k), shape)
    out.heads_first = True
    return out


def weighted(tape: Tape, weights: Tensor, v: Tensor) -> Tensor:
    """`weights @ v` for [B, heads, S, S] probabilities."""
    weights, v = tape.lower(weights), tape.lower(v)
    out = matmul(tape, weights, heads_first(tape, v), (*weights.shape[:-1], v.shape[3]))
    out.heads_first = True
    return out


def scaled_dot_product(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    probability: float,
    *,
    flash: bool,
) -> Tensor:
    """F.scaled_dot_product_attention as CUDA dispatches it: flash, then memory-efficient, then math.

    `flash` says whether the GPU has flash kernels (compute capability 8.0 and newer). `mask` is a bool
    [B, 1, S, S] that every call turns into an additive bias.
    """
    q, k, v = tape.lower(q), tape.lower(k), tape.lower(v)
    size = q.shape[3]
    low = q.dtype != "float32"
    if flash and low and mask is None and size <= FLASH_MAX_HEAD:
        return _flash(tape, q, k, v, probability)
    bias = None if mask is None else tape.empty(mask.shape, q.dtype, "attention bias")
    if q.shape[1] == k.shape[1] and size % (8 if low else 4) == 0:
        return _efficient(tape, q, k, v, None if bias is None else _aligned(tape, bias), probability)
    return _math(tape, q, k, v, bias, probability)


def _aligned(tape: Tape, bias: Tensor) -> Tensor:
    """The additive mask with rows padded to 16 elements, which the kernel's loads need."""
    batch, heads, rows, columns = bias.shape
    padded = (batch, heads, rows, -(-columns // 16) * 16)
    return tape.empty(padded, bias.dtype, "pad") if columns % 16 else bias


def _random_state(tape: Tape) -> tuple[Tensor, Tensor]:
    """Philox seed and offset of a fused kernel."""
    return tape.empty((2,), "int64", "rng state"), tape.empty((1,), "int64", "rng state")


def _flash(tape: Tape, q: Tensor, k: Tensor, v: Tensor, probability: float) -> Tensor:
    batch, heads, length, size = q.shape
    padded = -(-size // 8) * 8
    if padded != size:
        q, k, v = (_pad_heads(tape, tensor, padded) for tensor in (q, k, v))
    statistics = tape.empty((batch, heads, length), "float32", "logsumexp")
    save = (q, k, v, statistics, *_random_state(tape))
    out = tape.apply("flash attention", (q, k, v), q.shape, q.dtype, _flash_backward, save=save, save_output=True)
    out.heads_first = q.heads_first  # the kernel allocates its output like its query
    return out if padded == size else e.slice_last(tape, out, size)


def _pad_heads(tape: Tape, x: Tensor, size: int) -> Tensor:
    return tape.apply("pad", (x,), (*x.shape[:-1], size), x.dtype, _repeat_backward)


def _flash_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None, None)
    q, k = saved[0], saved[1]
    batch, heads, length, size = q.shape
    rows, columns = -(-length // 128) * 128, -(-size // 32) * 32
    scratch = [
        tape.empty((batch, heads, rows), "float32", "flash softmax_d", "temporaries"),
        tape.empty((batch, rows, heads, columns), "float32", "flash dq accumulator", "temporaries"),
    ]
    if k.shape[1] != heads:
        expanded = (batch, k.shape[2], heads, size)
        scratch += [tape.empty(expanded, q.dtype, "flash expanded dk, dv", "temporaries") for _ in range(2)]
    results: list[Tensor | None] = []
    for position, edge in enumerate(node.edges):
        result = tape.empty(edge[2], gradient.dtype, "flash backward") if edge else None
        if result is not None:
            result.heads_first = saved[position].heads_first
        results.append(result)
    scratch.clear()
    del saved, q, k
    return results


def _efficient(tape: Tape, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, probability: float) -> Tensor:
    batch, heads, length, size = q.shape
    statistics = tape.empty((batch, heads, -(-length // 32) * 32), "float32", "logsumexp")
    save = [q, k, v, statistics, *_random_state(tape)]
    if bias is not None:
        save.append(bias)
    if q.dtype != "float32" and size > 128:
        tape.scratch((batch * length * heads * size * 4,), "efficient attention accumulator")
    return tape.apply(
        "efficient attention", (q, k, v), q.shape, q.dtype, _efficient_backward, save=save, save_output=True
    )


def _efficient_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None, None)
    q = saved[0]
    batch, heads, length, size = q.shape
    scratch = [tape.empty((batch, heads, length), "float32", "efficient delta", "temporaries")]
    if q.dtype != "float32":
        rows, columns = -(-length // 64) * 64, -(-size // 64) * 64
        accumulator = (batch * heads, rows, columns)
        scratch.append(tape.empty(accumulator, "float32", "efficient dq accumulator", "temporaries"))
        if size > 128:
            scratch += [tape.empty(accumulator, "float32", "efficient dk, dv accumulator", "temporaries") for _ in "kv"]
    results = [tape.empty(edge[2], gradient.dtype, "efficient backward") if edge else None for edge in node.edges]
    scratch.clear()
    del saved, q
    return results


def _math(tape: Tape, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, probability: float) -> Tensor:
    """_scaled_dot_product_attention_math (torch 2.13 aten/src/ATen/native/transformers/attention.cpp).

    16-bit inputs are widened to float32 for the product and the softmax.
    """
    dtype = q.dtype
    q, k, v = tape.to(q, "float32"), tape.to(k, "float32"), tape.to(v, "float32")
    scaled = e.linear_unary(tape, "mul", q)
    if bias is None:
        bias = tape.empty((q.shape[2], k.shape[2]), "float32", "causal mask")
    repeats = q.shape[1] // k.shape[1]
    k, v = repeat_heads(tape, k, repeats), repeat_heads(tape, v, repeats)
    weights = _scores(tape, scaled, e.linear_unary(tape, "mul", k))
    weights = softmax(tape, e.add(tape, weights, bias), in_float32=False)
    weights = e.dropout(tape, weights, probability)
    return tape.to(weighted(tape, weights, v), dtype)

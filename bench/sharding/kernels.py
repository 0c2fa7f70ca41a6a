"""What CUDA kernels allocate inside, by operator, and attention as a CUDA build of torch dispatches it.

torch 2.13 aten/src/ATen/native/transformers/cuda (flash_api.cpp mha_bwd, attention_backward.cu), Embedding.cu.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

aten = torch.ops.aten


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _flash_backward(args: Sequence[Any]) -> list[int]:
    """softmax_d, the float32 accumulator of dq, and dk and dv of all query heads where heads share keys."""
    query, key = args[1], args[2]
    batch, heads, queries, size = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    rows, columns = _up(queries, 128), _up(size, 32)
    sizes = [batch * heads * rows * 4, batch * rows * heads * columns * 4]
    if kv_heads != heads:
        sizes += [batch * keys * heads * size * query.element_size()] * 2
    return sizes


def _efficient_backward(args: Sequence[Any]) -> list[int]:
    """Delta; in 16 bit the float32 accumulator of dq, and of dk and dv that registers do not hold."""
    query, key = args[1], args[2]
    batch, heads, queries, size = query.shape
    sizes = [batch * heads * queries * 4]
    if query.dtype != torch.float32:
        sizes.append(batch * heads * _up(queries, 64) * _up(size, 64) * 4)
        if size > 128:
            sizes.append(2 * batch * heads * _up(key.shape[2], 64) * _up(size, 64) * 4)
    return sizes


def _efficient(args: Sequence[Any]) -> list[int]:
    query, value = args[0], args[2]
    if query.dtype != torch.float32 and value.shape[-1] > 128:
        return [query.shape[0] * query.shape[2] * query.shape[1] * value.shape[-1] * 4]
    return []


def _embedding_backward(args: Sequence[Any]) -> list[int]:
    """Sorted and original indices, segments and CUB's scratch, 64 bit each."""
    count = args[1].numel()
    return [count * 8] * 5 if count > 3072 else []


TEMPORARIES: Mapping[str, Callable[[Sequence[Any]], list[int]]] = {
    "aten._scaled_dot_product_flash_attention_backward.default": _flash_backward,
    "aten._scaled_dot_product_efficient_attention_backward.default": _efficient_backward,
    "aten._scaled_dot_product_efficient_attention.default": _efficient,
    "aten.embedding_dense_backward.default": _embedding_backward,
}
"""Operator to the bytes of what its kernel holds while it runs."""


class _OfNarrowValues(torch.autograd.Function):
    """cuDNN's attention, and flex attention as compiled, of values narrower than keys; the output lies as the query."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        batch, heads, length, _ = query.shape
        out = torch.empty(batch, length, heads, value.shape[-1], dtype=query.dtype, device=query.device).transpose(1, 2)
        sums = torch.empty(batch, heads, length, dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, _: Any) -> Any:
        query, key, value, _out, sums = ctx.saved_tensors
        found = tuple(torch.empty_like(tensor) for tensor in (query, key, value))
        torch.empty_like(sums)
        return found


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """scaled_dot_product_attention: flash where it can, memory-efficient where that can, else math."""
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value, attn_mask = (
            tensor.to(dtype) if tensor is not None and tensor.is_floating_point() else tensor
            for tensor in (query, key, value, attn_mask)
        )
        with torch.autocast("cuda", enabled=False):
            return attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    size = query.shape[-1]
    if value.shape[-1] != size:
        return _OfNarrowValues.apply(query, key, value)
    in_16_bit = query.dtype in {torch.float16, torch.bfloat16}
    groups = query.shape[1] != key.shape[1]
    dense = all(tensor.stride(-1) == 1 for tensor in (query, key, value))
    ends_agree = not (is_causal and query.shape[2] != key.shape[2])
    if in_16_bit and attn_mask is None and size <= 256 and (enable_gqa or not groups) and dense and ends_agree:
        padded = (
            torch.nn.functional.pad(tensor, (0, -size % 8)) if size % 8 else tensor for tensor in (query, key, value)
        )
        given = scale if scale is not None else 1 / math.sqrt(size)
        out = aten._scaled_dot_product_flash_attention(*padded, dropout_p, is_causal, False, scale=given)[0]
        return out[..., :size] if size % 8 else out
    if dense and not groups and size % (8 if in_16_bit else 4) == 0 and (attn_mask is None or not is_causal):
        trains = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
        efficient = aten._scaled_dot_product_efficient_attention
        return efficient(query, key, value, attn_mask, trains, dropout_p, is_causal, scale=scale)[0]
    math_kernel = aten._scaled_dot_product_attention_math
    return math_kernel(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)[0]

"""Attention in one kernel whose values may be narrower than its keys: cuDNN's, and flex attention as it is compiled.

torch 2.13 aten/src/ATen/native/transformers/cuda/attention.cu (_scaled_dot_product_cudnn_attention),
torch/_higher_order_ops/flex_attention.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


def fused(tape: Tape, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[B, heads, S, d] over keys and values: keeps all three, its output and a float32 sum for every row."""
    results = ((q.shape[:-1], "float32", "logsumexp"),)
    out = tape.apply(
        "flash attention",
        (q, k, v),
        (*q.shape[:-1], v.shape[-1]),
        q.dtype,
        _backward,
        save=(q, k, v),
        results=results,
        save_output=True,
    )
    out.heads_first = q.heads_first
    return out


def _backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    saved = node.unpack(tape)
    (gradient,) = gradients
    if gradient is None:
        return (None, None, None)
    results = [tape.empty(edge[2], gradient.dtype, "flash backward") if edge else None for edge in node.edges]
    tape.scratch((4 * gradient.numel // gradient.shape[-1],), "delta")
    for result, tensor in zip(results, saved[:3], strict=True):
        if result is not None:
            result.heads_first = tensor.heads_first
    del saved
    return results

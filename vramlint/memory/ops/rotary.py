"""Rotary position embeddings (transformers 5.23 models/llama/modeling_llama.py)."""

from __future__ import annotations

from typing import NamedTuple

from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor


class Rotary(NamedTuple):
    """cos and sin, [1, S, d] in the dtype of the hidden states, shared by all layers."""

    cos: Tensor
    sin: Tensor


def rotary(tape: Tape, hidden: Tensor, size: int) -> Rotary:
    """The tables for hidden states [B, S, H] and rotated head size `size`."""
    shape = (1, 1, hidden.shape[1], size)
    return Rotary(tape.empty(shape, hidden.dtype, "rotary cos"), tape.empty(shape, hidden.dtype, "rotary sin"))


def rotate(tape: Tape, x: Tensor, position: Rotary) -> Tensor:
    """`x * cos + rotate_half(x) * sin` for x [B, heads, S, d]."""
    return e.add(tape, e.mul(tape, x, position.cos), e.mul(tape, _rotate_half(tape, x), position.sin))


def _rotate_half(tape: Tape, x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    first = e.slice_last(tape, x, half)
    second = e.slice_last(tape, x, half)
    return e.concatenate_last(tape, e.linear_unary(tape, "neg", second), first)


def rotate_part(tape: Tape, x: Tensor, size: int) -> Tensor:
    """Rope of litgpt on the first `size` features of x [B, heads, S, d] (litgpt 0.5 model.py, apply_rope).

    cos and sin are buffers of another dtype, so the product is float32; the parts are concatenated again.
    """
    if size <= 0:
        return x
    table = Tensor((1, 1, x.shape[2], size), "float32", None)
    first = e.slice_last(tape, x, size)
    roped = tape.to(rotate(tape, first, Rotary(table, table)), x.dtype)
    return e.concatenate_last(tape, roped, e.slice_last(tape, x, x.shape[3] - size))

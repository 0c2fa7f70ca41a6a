"""Rotary position embeddings (transformers 5.23 models/llama/modeling_llama.py and the variants named below)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.latent import split_parts
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Tensor


class Rotary(NamedTuple):
    """cos and sin, [1, S, d], shared by all layers."""

    cos: Tensor
    sin: Tensor


def rotary(tape: Tape, hidden: Tensor, size: int, dtype: str | None = None) -> Rotary:
    """The tables for hidden states [B, S, H] and rotated head size `size`, in their dtype or the one given."""
    rows = hidden.shape[0] if tape.positions_by_row else 1
    shape, dtype = (rows, 1, hidden.shape[1], size), dtype or hidden.dtype
    return Rotary(tape.empty(shape, dtype, "rotary cos"), tape.empty(shape, dtype, "rotary sin"))


def rotate(tape: Tape, x: Tensor, position: Rotary) -> Tensor:
    """`x * cos + rotate_half(x) * sin` for x [B, heads, S, d]. Halves and pairs of elements allocate the same."""
    return e.add(tape, e.mul(tape, x, position.cos), e.mul(tape, _rotate_half(tape, x), position.sin))


def rotate_back_to(tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
    """Float32 tables make float32 products, which are cast back (models/olmo/modeling_olmo.py)."""
    q_embed = rotate(tape, q, position)
    k_embed = rotate(tape, k, position)
    return tape.to(q_embed, q.dtype), tape.to(k_embed, k.dtype)


def rotate_widened(tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
    """Queries and keys are float32 while they rotate (models/cohere/modeling_cohere.py)."""
    dtype = q.dtype
    q, k = tape.to(q, "float32"), tape.to(k, "float32")
    q_embed = rotate(tape, q, position)
    k_embed = rotate(tape, k, position)
    return tape.to(q_embed, dtype), tape.to(k_embed, dtype)


def rotate_widened_parts(tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
    """Each factor is made float32 by itself (models/ernie4_5/modeling_ernie4_5.py)."""

    def embed(x: Tensor) -> Tensor:
        return e.add(
            tape,
            e.mul(tape, tape.to(x, "float32"), position.cos),
            e.mul(tape, tape.to(_rotate_half(tape, x), "float32"), position.sin),
        )

    position = repeated(tape, position)
    q_embed = embed(q)
    k_embed = embed(k)
    return tape.to(q_embed, q.dtype), tape.to(k_embed, k.dtype)


def rotate_part(tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
    """The rotated part is concatenated with the rest, which copies even when nothing rests (models/glm, nemotron)."""
    rotated, size = position.cos.shape[-1], q.shape[-1]
    q_rot, q_pass = shaping.slice_last(tape, q, rotated), shaping.slice_last(tape, q, size - rotated)
    k_rot, k_pass = shaping.slice_last(tape, k, rotated), shaping.slice_last(tape, k, size - rotated)
    q_embed = rotate(tape, q_rot, position)
    k_embed = rotate(tape, k_rot, position)
    q_embed = shaping.concatenate_last(tape, q_embed, q_pass)
    k_embed = shaping.concatenate_last(tape, k_embed, k_pass)
    return q_embed, k_embed


def rotate_in_float32(tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
    """Widened anew for each of both products, the sums cast back (models/modernbert/modeling_modernbert.py)."""

    def embed(x: Tensor) -> Tensor:
        straight = e.mul(tape, tape.to(x, "float32"), position.cos)
        return e.add(tape, straight, e.mul(tape, _rotate_half(tape, tape.to(x, "float32")), position.sin))

    q_embed = embed(q)
    k_embed = embed(k)
    return tape.to(q_embed, q.dtype), tape.to(k_embed, k.dtype)


def repeated(tape: Tape, position: Rotary) -> Rotary:
    """Half of the tables, each element twice; every layer makes its own (`repeat_interleave(2, dim=-1)`)."""
    cos, sin = (tape.empty(table.shape, table.dtype, "repeat_interleave") for table in position)
    return Rotary(cos, sin)


def rotate_pairs(tape: Tape, x: Tensor, position: Rotary) -> Tensor:
    """Elements of even and odd number by half of the tables, put behind each other (models/deepseek_v3)."""
    half = x.shape[-1] // 2
    cos, sin = (table.as_shape((*table.shape[:-1], half)) for table in position)
    even, odd = shaping.slice_last(tape, x, half), shaping.slice_last(tape, x, half)
    return shaping.concatenate_last(
        tape,
        e.sub(tape, e.mul(tape, even, cos), e.mul(tape, odd, sin)),
        e.add(tape, e.mul(tape, odd, cos), e.mul(tape, even, sin)),
    )


def rotate_halves(tape: Tape, x: Tensor, position: Rotary) -> Tensor:
    """Both halves by half of the tables, put behind each other (models/gpt_oss)."""
    half = x.shape[-1] // 2
    first, second = split_parts(tape, x, (half, half))
    left = e.sub(tape, e.mul(tape, first, position.cos), e.mul(tape, second, position.sin))
    right = e.add(tape, e.mul(tape, second, position.cos), e.mul(tape, first, position.sin))
    return shaping.concatenate_last(tape, left, right)


def unpaired(tape: Tape, x: Tensor) -> Tensor:
    """Elements of even number, then those of odd number: `view(…, d // 2, 2).transpose(4, 3).reshape(…)`, a copy."""
    out = tape.apply("reshape", (x,), x.shape, x.dtype, _unpaired_backward)
    out.heads_first = True
    return out


def _unpaired_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    (gradient,) = gradients
    if gradient is None:
        return (None,)
    out = tape.empty(gradient.shape, gradient.dtype, "reshape")
    out.heads_first = True
    return (out,)


def _rotate_half(tape: Tape, x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    first = shaping.slice_last(tape, x, half)
    second = shaping.slice_last(tape, x, half)
    return shaping.concatenate_last(tape, e.linear_unary(tape, "neg", second), first)


def rotate_first(tape: Tape, x: Tensor, size: int) -> Tensor:
    """Rope of litgpt on the first `size` features of x [B, heads, S, d] (litgpt 0.5 model.py, apply_rope).

    cos and sin are buffers of another dtype, so the product is float32; the parts are concatenated again.
    """
    if size <= 0:
        return x
    table = Tensor((1, 1, x.shape[2], size), "float32", None)
    first = shaping.slice_last(tape, x, size)
    roped = tape.to(rotate(tape, first, Rotary(table, table)), x.dtype)
    return shaping.concatenate_last(tape, roped, shaping.slice_last(tape, x, x.shape[3] - size))


def rotate_pairs_widened(tape: Tape, x: Tensor) -> Tensor:
    """Elements of even and odd number of x [B, S, heads, d] in float32, stacked again.

    torchtune 0.7 modules/position_embeddings.py
    """
    half = (*x.shape[:-1], x.shape[-1] // 2)
    table = Tensor((1, x.shape[1], 1, half[-1]), "float32", None)
    wide = tape.to(x, "float32")

    def element() -> Tensor:
        return shaping.part(tape, wide, half)

    first = e.sub(tape, e.mul(tape, element(), table), e.mul(tape, element(), table))
    second = e.add(tape, e.mul(tape, element(), table), e.mul(tape, element(), table))
    stacked = shaping.concatenate(tape, (first, second), x.shape)
    return tape.to(stacked, x.dtype)

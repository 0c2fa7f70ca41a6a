"""Attention of ranks that share every sequence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vramlint.job import SharedSequence
from vramlint.memory.kernels import FLASH_MAX_HEAD
from vramlint.memory.ops import attention, sdpa
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

if TYPE_CHECKING:
    from vramlint.memory.regime import Regime

ULYSSES, RING = "ulysses", "ring"
FLASH_RING, FLASH_GATHER = "flash-ring", "flash-gather"
SWIFT, VERL, XTUNER = "swift", "verl", "xtuner"
"""Of `SharedSequence.form`."""


def is_shared(tape: Tape, sequence: SharedSequence) -> bool:
    """Whether the forward that runs shares its sequences: DeepSpeed's and xtuner's do in training alone.

    accelerate 1.15 accelerator.py, _prepare_deepspeed (disable_in_eval); xtuner 0.2 model/modules/dispatch/llama.py.
    """
    return tape.training or sequence.form not in (ULYSSES, XTUNER)


def attend(
    tape: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    regime: Regime,
    sequence: SharedSequence,
    dropout: float,
) -> Tensor:
    """A rank's part of the attention's output, merged to [B, S / ranks, heads·d]; all but ms-swift drop the mask.

    Raises:
        NotFollowedError: the kernel, or the number of heads, does not go with it.
    """
    if regime.implementation == "eager" or (sequence.form == RING and regime.implementation != "sdpa"):
        raise NotFollowedError(f"a shared sequence with {regime.implementation}, which the library refuses,")
    if sequence.form in (FLASH_RING, FLASH_GATHER):
        from vramlint.memory.ops import flash_ring

        if tape.autocast is None:
            q, k, v = (tape.to(x, regime.flash_dtype) if x.dtype == "float32" else x for x in (q, k, v))
        q, k, v = (tape.lower(x) for x in (q, k, v))
        if sequence.form == FLASH_RING:
            return attention.merge_heads(tape, flash_ring.ring(tape, q, k, v, sequence.ranks))
        return attention.merge_heads(tape, flash_ring.gathered(tape, q, k, v, sequence.ranks, sequence.stride))
    if sequence.form == RING:
        from vramlint.memory.ops.ring import ring_attention

        return attention.merge_heads(tape, ring_attention(tape, q, k, v, sequence.ranks))

    taken = mask if sequence.form == SWIFT and regime.implementation == "sdpa" else None

    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if (taken is not None or q.shape[3] > FLASH_MAX_HEAD) and regime.implementation == "sdpa":
            repeats = q.shape[1] // k.shape[1]
            k, v = attention.repeat_heads(tape, k, repeats), attention.repeat_heads(tape, v, repeats)
        if regime.implementation != "sdpa" and tape.autocast is None:
            q, k, v = (tape.to(x, regime.flash_dtype) if x.dtype == "float32" else x for x in (q, k, v))
        run = partial(sdpa.scaled_dot_product, tape, mask=taken, probability=dropout, kernels=regime.kernels)
        return run(q, k, v)

    if sequence.form == XTUNER:  # xtuner 0.2 model/modules/dispatch/{llama,qwen2}.py repeat them before they cross
        repeats = q.shape[1] // k.shape[1]
        k, v = attention.repeat_heads(tape, k, repeats), attention.repeat_heads(tape, v, repeats)
    if sequence.form in (SWIFT, VERL, XTUNER):
        from vramlint.memory.ops.swift_sequences import by_heads

        pieces = sequence.form != SWIFT
        positions = _positions(tape, q, sequence.ranks) if sequence.form == VERL else []
        out = by_heads(tape, q, k, v, sequence.ranks, kernel, pieces=pieces)
        positions.clear()
        return attention.merge_heads(tape, out)
    from vramlint.memory.ops.ulysses import ulysses

    return ulysses(tape, q, k, v, sequence.ranks, kernel)


def _positions(tape: Tape, q: Tensor, ranks: int) -> list[Tensor]:
    """Positions of all ranks, one by one and joined, which attention is told where samples begin by.

    verl 0.7 models/transformers/monkey_patch.py, _ulysses_flash_attention_forward.
    """
    return [tape.empty((q.shape[0], q.shape[2] * ranks), "int64", "position ids") for _ in range(2)]

"""What decides how an architecture's forward runs: kernels, masks, checkpointing, library versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vramlint.job import Job
from vramlint.memory import checkpoint
from vramlint.memory.ops import attention
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor

GQA_IN_SDPA = (4, 48)
"""Since then transformers lets sdpa share key/value heads instead of copying them (integrations/sdpa_attention.py)."""
FLASH_CAPABILITY = (8, 0)
"""The flash kernels of torch need this compute capability (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)."""
PACKED_MASK_FROM, PACKED_MASK_UNTIL = (4, 53), (5, 0)
"""Between these versions of transformers a forward without attention_mask and without cache looks for packed sequences
and always builds a mask (masking_utils.py, find_packed_sequence_indices)."""


@dataclass(frozen=True, slots=True)
class Regime:
    """The settings of one forward pass."""

    implementation: str
    padding: bool
    attention_mask: bool
    flash_kernels: bool
    checkpointing: str
    use_cache: bool
    transformers: tuple[int, ...]
    loss: str = "causal-lm"
    """Objective.loss of the job."""
    inputs_require_grad: bool = False
    """Peft's enable_input_require_grads, which checkpointing of a frozen base needs."""

    @classmethod
    def of(cls, job: Job) -> Regime:
        """The regime of a job. Without a GPU, kernels are chosen as on compute capability 8.0 and newer."""
        capability = job.gpu.compute_capability if job.gpu else None
        return cls(
            implementation=job.attention.implementation,
            padding=job.batch.padding,
            attention_mask=job.batch.attention_mask,
            flash_kernels=capability is None or capability >= FLASH_CAPABILITY,
            checkpointing=job.checkpointing.mode,
            use_cache=job.attention.use_cache and job.checkpointing.mode == "none",
            transformers=job.libraries.transformers,
            loss=job.objective.loss,
            inputs_require_grad=job.adapter is not None and job.checkpointing.mode != "none",
        )

    def mask(self, tape: Tape, like: Tensor, window: int | None) -> Tensor | None:
        """The causal mask [B, 1, S, S] of a decoder, None where the kernel's own causality will do.

        `like` is the embedding's output [B, S, H]. A sliding window forces a mask once the sequence
        reaches it (transformers 5.23 masking_utils.py).
        """
        batch, length = like.shape[0], like.shape[1]
        shape = (batch, 1, length, length)
        if self.implementation == "eager":
            return tape.empty(shape, like.dtype, "attention mask")
        if self.implementation != "sdpa":
            return None
        packed = not self.attention_mask and PACKED_MASK_FROM <= self.transformers < PACKED_MASK_UNTIL
        windowed = window is not None and length >= window
        if (self.padding and self.attention_mask) or (packed and not self.use_cache) or windowed:
            return tape.empty(shape, "bool", "attention mask")
        return None

    def attend(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
        """Attention of [B, heads, S, d] queries over keys and values, merged to [B, S, heads·d]."""
        if self.use_cache:
            k, v = self._cached(tape, k, k.dtype), self._cached(tape, v, k.dtype)
        if self.implementation == "eager":
            out = attention.eager(tape, q, k, v, mask, dropout)
        else:
            shared = mask is None and q.shape[3] <= attention.FLASH_MAX_HEAD and self.transformers >= GQA_IN_SDPA
            if not shared and self.implementation == "sdpa":
                repeats = q.shape[1] // k.shape[1]
                k, v = attention.repeat_heads(tape, k, repeats), attention.repeat_heads(tape, v, repeats)
            flash = self.flash_kernels or self.implementation != "sdpa"
            out = attention.scaled_dot_product(tape, q, k, v, mask, dropout, flash=flash)
        return attention.merge_heads(tape, out)

    def _cached(self, tape: Tape, x: Tensor, dtype: str) -> Tensor:
        """DynamicCache.update: a concatenation with the empty cache, which has the keys' dtype (cache_utils.py)."""
        out = attention.cached(tape, x, dtype)
        tape.keep(out)
        return out

    def layer(self, tape: Tape, forward: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        """Run one layer, checkpointed if the run checkpoints its layers."""
        if self.checkpointing == "nonreentrant" and tape.grad_enabled:
            return checkpoint.nonreentrant(tape, forward, hidden)
        if self.checkpointing == "reentrant" and tape.grad_enabled:
            return checkpoint.reentrant(tape, forward, hidden)
        return forward(hidden)

"""Which kernel `scaled_dot_product_attention` runs on a GPU.

Follows torch 2.13 aten/src/ATen/native/transformers/cuda/sdp_utils.cpp. The cuDNN kernel, which newer cards prefer,
keeps what flash attention keeps and is taken for it.
"""

from __future__ import annotations

from msgspec import Struct

from vramlint.job import Job

Capability = tuple[int, int]

AMPERE: Capability = (8, 0)
VOLTA: Capability = (7, 0)
FLASH_MAX_HEAD = 256
"""Largest head size of the flash kernels."""
SMALL_SHARED_MEMORY: tuple[tuple[Capability, Capability], ...] = (((8, 6), (8, 9)), ((12, 0), (12, 1)))
"""Cards, first to last, on which flash attention cannot differentiate some head sizes."""
SHARED_HEADS_FROM = (2, 14)
"""Since then the memory-efficient kernel takes fewer key/value heads than query heads."""


class Kernels(Struct, frozen=True):
    """The attention kernels of one card under one torch."""

    capability: Capability = AMPERE
    torch: tuple[int, ...] = (2, 13)
    package: bool = False
    """The flash-attn package is called directly: nothing is left to choose."""

    @classmethod
    def of(cls, job: Job) -> Kernels:
        """The kernels of a job. Without a GPU, those of compute capability 8.0."""
        capability = job.gpu.compute_capability if job.gpu else None
        return cls(capability or AMPERE, job.libraries.torch, job.attention.implementation not in ("eager", "sdpa"))

    def flash(self, dtype: str, head: int, value_head: int, *, differentiates: bool, drops: bool) -> bool:
        """Whether attention without a mask runs in the flash kernel.

        `head` and `value_head` are head sizes; `differentiates` says whether an input requires a gradient, `drops`
        whether there is dropout.
        """
        if dtype == "float32" or head > FLASH_MAX_HEAD or value_head != head:
            return False
        if self.package:
            return True
        if self.capability < AMPERE:
            return False
        small = any(first <= self.capability <= last for first, last in SMALL_SHARED_MEMORY)
        refused = 192 < head <= 224 or (head > 224 and drops)
        return not (small and differentiates and refused)

    def efficient(self, dtype: str, head: int, value_head: int, *, shares_heads: bool) -> bool:
        """Whether the memory-efficient kernel takes these head sizes (minimum_gemm_alignment)."""
        if dtype == "bfloat16" and self.capability < AMPERE:
            return False
        if shares_heads and self.torch < SHARED_HEADS_FROM:
            return False
        alignment = self._alignment(dtype)
        return head % alignment == 0 and value_head % alignment == 0

    def _alignment(self, dtype: str) -> int:
        """Elements by which head sizes must be divisible: 16 bytes where tensor cores are used."""
        if self.capability >= AMPERE:
            return 4 if dtype == "float32" else 8
        return 8 if dtype != "float32" and self.capability >= VOLTA else 1

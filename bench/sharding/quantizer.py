"""Shapes of what DeepSpeed's compiled quantizer allocates (deepspeed 0.19.8 csrc/quantization/pt_binding.cpp)."""

from __future__ import annotations

from typing import Any

import torch

EIGHT = 8
"""Bits of an element that is not packed."""


class Quantizer:
    """The compiled module of QuantizerBuilder, without values. Scales are float32 and symmetric, one for a group."""

    Symmetric, Asymmetric = 0, 1

    @staticmethod
    def quantize(values: Any, groups: int, bits: int, _kind: int) -> tuple[Any, Any]:
        """quantize_kernel."""
        scales = torch.empty((groups, 1), dtype=torch.float32, device=values.device)
        *outer, width = values.shape
        shape = (*outer, width if bits == EIGHT else width // 2)
        return torch.empty(shape, dtype=torch.int8, device=values.device), scales

    @staticmethod
    def dequantize(quantized: Any, _scales: Any, _groups: int, bits: int, _kind: int) -> Any:
        """dequantize<__half>."""
        *outer, width = quantized.shape
        shape = (*outer, width * (1 if bits == EIGHT else 2))
        return torch.empty(shape, dtype=torch.float16, device=quantized.device)

    @staticmethod
    def swizzle_quant(values: Any, groups: int, bits: int, *_: int) -> tuple[Any, Any]:
        """ds_swizzle_quant."""
        scales = torch.empty((groups, 1), dtype=torch.float32, device=values.device)
        return torch.empty((values.numel() // (EIGHT // bits),), dtype=torch.int8, device=values.device), scales

    @staticmethod
    def quantized_reduction(
        values: Any, _scales: Any, _in_groups: int, groups: int, _bits: int, _kind: int, devices: int
    ) -> tuple[Any, Any]:
        """quantized_reduction."""
        scales = torch.empty((groups, 1), dtype=torch.float32, device=values.device)
        *outer, width = values.shape
        return torch.empty((*outer, width // devices), dtype=torch.int8, device=values.device), scales

"""A stand-in for flash-attn, for ring-flash-attn to call: what its kernels return and hold, without the kernels.

flash-attention 2.8 flash_attn/flash_attn_interface.py; csrc/flash_attn/flash_api.cpp, mha_fwd, mha_bwd and their varlen
forms.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import torch


def install() -> None:
    """Put the module in the place of flash_attn."""
    package, interface = ModuleType("flash_attn"), ModuleType("flash_attn.flash_attn_interface")
    for function in (
        _flash_attn_forward,
        _flash_attn_varlen_forward,
        _flash_attn_backward,
        _flash_attn_varlen_backward,
    ):
        setattr(interface, function.__name__, function)
    package.flash_attn_interface = interface  # type: ignore[attr-defined]
    sys.modules |= {"flash_attn": package, "flash_attn.flash_attn_interface": interface}


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _like(x: Any) -> Any:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _flash_attn_forward(
    q: Any, k: Any, v: Any, dropout_p: float, softmax_scale: float, causal: bool, window_size_left: int,
    window_size_right: int, softcap: float, alibi_slopes: Any, return_softmax: bool,
) -> Any:  # fmt: skip
    batch, length, heads, _ = q.shape
    logsumexp = torch.empty((batch, heads, length), dtype=torch.float32, device=q.device)
    return _like(q), logsumexp, None, torch.empty(2, dtype=torch.int64, device=q.device)


def _flash_attn_varlen_forward(
    q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int, max_seqlen_k: int,
    dropout_p: float, softmax_scale: float, causal: bool, window_size_left: int = -1, window_size_right: int = -1,
    softcap: float = 0.0, alibi_slopes: Any = None, return_softmax: bool = False,
) -> Any:  # fmt: skip
    total, heads, _ = q.shape
    logsumexp = torch.empty((heads, total), dtype=torch.float32, device=q.device)
    return _like(q), logsumexp, None, torch.empty(2, dtype=torch.int64, device=q.device)


def _flash_attn_backward(
    dout: Any, q: Any, k: Any, v: Any, out: Any, softmax_lse: Any, dq: Any, dk: Any, dv: Any, dropout_p: float,
    softmax_scale: float, causal: bool, window_size_left: int, window_size_right: int, softcap: float,
    alibi_slopes: Any, deterministic: bool, rng_state: Any = None,
) -> Any:  # fmt: skip
    batch, length, heads, size = q.shape
    rows = _up(length, 128)
    return _inside(q, (batch * rows, heads, size), k, (batch, k.shape[1], heads, size))


def _flash_attn_varlen_backward(
    dout: Any, q: Any, k: Any, v: Any, out: Any, softmax_lse: Any, dq: Any, dk: Any, dv: Any, cu_seqlens_q: Any,
    cu_seqlens_k: Any, max_seqlen_q: int, max_seqlen_k: int, dropout_p: float, softmax_scale: float, causal: bool,
    window_size_left: int = -1, window_size_right: int = -1, softcap: float = 0.0, alibi_slopes: Any = None,
    deterministic: bool = False, rng_state: Any = None, zero_tensors: bool = False,
) -> Any:  # fmt: skip
    total, heads, size = q.shape
    return _inside(q, (total + 128, heads, size), k, (k.shape[0], heads, size))


def _inside(q: Any, queries: tuple[int, int, int], k: Any, keys: tuple[int, ...]) -> Any:
    rows, heads, size = queries
    softmax_d = torch.empty((heads, rows), dtype=torch.float32, device=q.device)
    accumulator = torch.empty((rows, heads, _up(size, 32)), dtype=torch.float32, device=q.device)
    expanded = [torch.empty(keys, dtype=q.dtype, device=q.device) for _ in range(2)] if keys[-2] != k.shape[-2] else []
    del accumulator, expanded
    return softmax_d

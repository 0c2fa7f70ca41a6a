"""What Megatron-Core asks of a GPU, of NCCL and of Apex, for fake tensors in a process without them (core 0.20)."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from bench.sharding import fake_cuda
from bench.sharding.counting import Storages
from bench.sharding.titan_run import fuse_norms

TYPES = {
    "FloatTensor": torch.float32,
    "HalfTensor": torch.float16,
    "BFloat16Tensor": torch.bfloat16,
    "IntTensor": torch.int32,
    "DoubleTensor": torch.float64,
}
"""torch.cuda's old names of tensor types, which a CPU build has no types for."""


class _Typed(type):
    """Such a type: called it makes a tensor, asked it looks at the dtype."""

    dtype: torch.dtype

    def __call__(cls, values: Any) -> Any:
        return torch.tensor(values, dtype=cls.dtype, device="cuda")

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, torch.Tensor) and instance.dtype == cls.dtype and instance.is_cuda


class Even(Storages):
    """Tokens are shared out evenly: whatever is counted by expert or rank is an equal part of all of them."""

    def __init__(self, tokens: int) -> None:
        """`tokens` of a rank, once for each of their experts."""
        super().__init__()
        self.tokens = tokens
        self.flags = lambda _: False  # no overflow, no NaN

    def answer_counts(self) -> None:
        """Let tensors of counts tell what they hold."""
        FakeTensor.numpy = lambda tensor: self._shares(tensor)  # noqa: PLW0108  a method is not bound again
        FakeTensor.tolist = lambda tensor: self._shares(tensor).tolist()

    def _shares(self, counts: Any) -> np.ndarray[Any, Any]:
        return np.full(tuple(counts.shape), self.tokens // max(1, counts.numel()))

    def _answer(self, name: str, args: Any) -> Any:
        if name == "aten.masked_select.default":
            out = torch.empty(self.tokens, dtype=args[0].dtype, device=args[0].device)
            self.count(out, None, name)
            return out
        if name == "aten._local_scalar_dense.default" and args[0].dtype == torch.int64:
            return self.tokens
        return super()._answer(name, args)


def before_import() -> None:
    """What Python 3.11 lacks."""
    if not hasattr(typing, "override"):
        vars(typing)["override"] = lambda method: method


def install() -> None:
    """Patch torch and Megatron; once per process, before any model is made."""
    fake_cuda.install()
    fuse_norms()
    _torch()
    _megatron()


def _torch() -> None:
    for name, dtype in TYPES.items():
        setattr(torch.cuda, name, _Typed(name, (), {"dtype": dtype}))
    card = SimpleNamespace(total_memory=1 << 40, multi_processor_count=132, name="null", major=9, minor=0)
    torch.cuda.get_device_properties = lambda *_: card
    torch.compile = lambda function=None, **_: function if function is not None else lambda found: found
    made, arange = dist.new_group, torch.arange
    dist.new_group = lambda ranks=None, *_, **__: made(ranks, backend="fake")
    dist.all_gather_object = _gather_own

    def valued(*bounds: Any, device: Any = None, **words: Any) -> Any:
        if device is not None and torch.device(device).type != "cpu":
            return arange(*bounds, device=device, **words)
        with _disable_current_modes():
            return arange(*bounds, **words)

    torch.arange = valued  # indices on the host have values


def _gather_own(found: list[Any], value: Any, group: Any = None) -> None:
    """What every rank says, taken to be what this one says."""
    found[:] = [value] * len(found)


def _megatron() -> None:
    from megatron.core import optimizer
    from megatron.core.optimizer import clip_grads
    from megatron.core.tensor_parallel import random
    from megatron.core.transformer import multi_token_prediction, torch_norm
    from megatron.core.transformer.moe import moe_utils, token_dispatcher

    random.FP8GlobalStateManager = SimpleNamespace(is_fp8_enabled=lambda: False)
    random.activation_recompute_forward = random.fp8_autocast = lambda **_: contextlib.nullcontext()
    random._get_cuda_rng_state = lambda *_, **__: torch.zeros(1)
    random._set_cuda_rng_state = lambda *_, **__: None
    multi_token_prediction.is_inference_column_parallel_linear = lambda _: False
    torch_norm.WrappedTorchNorm.__new__ = _norm
    moe_utils.sort_chunks_by_idxs = token_dispatcher.sort_chunks_by_idxs = _sorted
    applied: Callable[..., Any] = lambda *_: (torch.zeros(1, device="cuda"), None)  # noqa: E731  one kernel, in place
    clip_grads.multi_tensor_applier = optimizer.optimizer.multi_tensor_applier = applied
    optimizer.Adam, optimizer.USING_PYTORCH_OPTIMIZER = _adam, False


def _adam(params: Any, adam_w_mode: bool = True, bias_correction: bool = True, **words: Any) -> Any:
    """A fused kernel as Transformer Engine's and Apex's, with the states that they have."""
    return torch.optim.AdamW(params, **{**words, "fused": True})


def _norm(_: Any, config: Any, hidden_size: int, eps: float = 1e-5, **__: Any) -> Any:
    """Torch's norm in place of Apex's, which takes shared sequences too: both keep the input and its statistics."""
    kind = torch.nn.LayerNorm if config.normalization == "LayerNorm" else torch.nn.RMSNorm
    made: Any = kind(normalized_shape=hidden_size, eps=eps)
    made.returns_residual = False
    for parameter in made.parameters():
        parameter.sequence_parallel = config.sequence_parallel
    return made


def _sorted(tokens: Any, sizes: Any, indices: Any, probs: Any = None, fused: bool = False) -> Any:
    """sort_chunks_by_idxs of equal chunks, whose order makes no difference."""
    parts = [torch.cat(torch.split(one, sizes.tolist())) if one is not None else None for one in (tokens, probs)]
    return parts[0], parts[1]

"""torch's DistributedDataParallel as accelerate 1.15 wraps a model (accelerator.py:1882-1899)."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel, distributed

from bench.sharding import training
from bench.sharding.counting import Storages
from bench.sharding.training import Engine

HOOKS = {"bf16": default_hooks.bf16_compress_hook, "fp16": default_hooks.fp16_compress_hook}


class KeepsBuckets:
    """A reducer that does not sort its buckets anew behind the first backward, for which ranks exchange values.

    The new buckets have the sizes of the old ones, in the order in which gradients arrived.
    """

    def __init__(self, reducer: Any) -> None:
        self._reducer = reducer

    def __getattr__(self, name: str) -> Any:
        """What the reducer itself has."""
        return getattr(self._reducer, name)

    def _rebuild_buckets(self) -> bool:
        return False


def engine(case: dict[str, Any], model: Any, storages: Storages) -> Engine:
    """DDP over the model, whose forward runs under autocast where the case has it."""
    wanted = case["parallelism"]
    training.autocast(case, model, storages.device)
    if storages.device == "cuda":
        distributed._verify_param_shape_across_processes = lambda *_, **__: None  # it reads sizes that ranks exchange
    wrapped = DistributedDataParallel(
        model,
        device_ids=[0] if storages.device == "cuda" else None,
        bucket_cap_mb=wanted.get("bucket_mb"),
        gradient_as_bucket_view=wanted.get("bucket_view", False),
        static_graph=wanted.get("static_graph", False),
        find_unused_parameters=wanted.get("find_unused", False),
    )
    if wanted.get("hook"):
        wrapped._check_comm_hook = lambda _: None  # it wants NCCL
        wrapped.register_comm_hook(None, HOOKS[wanted["hook"]])
    if storages.device == "cuda":
        wrapped.reducer = KeepsBuckets(wrapped.reducer)
        wrapped.logger = SimpleNamespace(set_runtime_stats_and_log=lambda: None)  # it asks CUDA events for times
    no_sync = contextlib.nullcontext if wanted.get("sync_each_batch") else wrapped.no_sync
    return training.plain_engine(case, wrapped, no_sync)

"""torch's FSDP 1 and 2, wrapped as accelerate 1.15 wraps a model, over fake tensors and a fake process group."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    apply_activation_checkpointing,
    checkpoint_wrapper,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    BackwardPrefetch,
    CPUOffload,
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    OffloadPolicy,
    ShardingStrategy,
    fully_shard,
)
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy, transformer_auto_wrap_policy
from torch.utils._python_dispatch import _disable_current_modes

from bench.gpu import build
from bench.sharding import plan_runs, sequence_runs, training
from bench.sharding.counting import Storages
from bench.sharding.training import Engine

STRATEGIES = {
    "full": ShardingStrategy.FULL_SHARD,
    "grad-op": ShardingStrategy.SHARD_GRAD_OP,
    "none": ShardingStrategy.NO_SHARD,
    "hybrid": ShardingStrategy.HYBRID_SHARD,
    "hybrid-grad-op": ShardingStrategy._HYBRID_SHARD_ZERO2,
}


def layer_classes(model: Any) -> set[type]:
    """The classes of the modules that the Trainer wraps: the model's `_no_split_modules`."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    return {type(module) for module in model.modules() if type(module).__name__ in names}


def wrap_policy(model: Any, wanted: str, *, adapters_apart: bool) -> Any:
    """Accelerate's auto_wrap_policy; with adapters PEFT's (peft 0.21 utils/other.py, fsdp_auto_wrap_policy)."""
    if wanted == "none":
        return None
    if adapters_apart:
        from torch.distributed.fsdp.wrap import _or_policy

        def trains_alone(module: Any) -> bool:
            children = list(module.named_children())
            return not children and getattr(module, "weight", None) is not None and module.weight.requires_grad

        leaves = functools.partial(lambda_auto_wrap_policy, lambda_fn=trains_alone)
        layers = functools.partial(transformer_auto_wrap_policy, transformer_layer_cls=layer_classes(model))
        return functools.partial(_or_policy, policies=[leaves, layers])
    return functools.partial(transformer_auto_wrap_policy, transformer_layer_cls=layer_classes(model))


def mesh_of(wanted: dict[str, Any]) -> Any:
    """The ranks that shard and those that replicate them; of shared sequences accelerate's mesh, joined as it does."""
    world, replicas, sequence = wanted["world"], wanted.get("replicas", 1), wanted.get("sequence", 1)
    tensor = wanted.get("tensor", 1)
    with _disable_current_modes():  # of real tensors
        if sequence > 1 or tensor > 1:
            names = ("dp_replicate", "dp_shard", "cp", "tp")
            sizes = (replicas, world // replicas // sequence // tensor, sequence, tensor)
            used = [(size, name) for size, name in zip(sizes, names, strict=True) if size > 1]
            mesh = init_device_mesh("cuda", tuple(s for s, _ in used), mesh_dim_names=tuple(n for _, n in used))
            shards = [name for _, name in used if name in ("dp_shard", "cp")]
            mesh[tuple(shards)]._flatten("dp_shard_cp")
            return mesh
        if replicas == 1:
            return init_device_mesh("cuda", (world,), mesh_dim_names=("shard",))
        return init_device_mesh("cuda", (replicas, world // replicas), mesh_dim_names=("replicate", "shard"))


def wrap_1(case: dict[str, Any], model: Any) -> Any:
    """Accelerate 1.15 accelerator.py:1905-2040: FSDP with the plugin's options, then float32 shares that train."""
    wanted = case["parallelism"]
    mixed = build.dtype_of(case["autocast"]) if case.get("autocast") else None
    precision = MixedPrecision(param_dtype=mixed, reduce_dtype=mixed, buffer_dtype=mixed) if mixed else None
    mesh = mesh_of(wanted) if wanted.get("replicas", 1) > 1 else None
    model = FullyShardedDataParallel(
        model,
        sharding_strategy=STRATEGIES[wanted.get("sharding", "full")],
        cpu_offload=CPUOffload(offload_params=True) if wanted.get("offload") else None,
        auto_wrap_policy=wrap_policy(model, wanted.get("wrap", "transformer"), adapters_apart=bool(case.get("peft"))),
        mixed_precision=precision,
        backward_prefetch=BackwardPrefetch[wanted["prefetch"]] if wanted.get("prefetch") else None,
        forward_prefetch=wanted.get("forward_prefetch", False),
        use_orig_params=wanted.get("use_orig_params", True),
        limit_all_gathers=True,
        device_id=torch.device("cuda", 0),
        device_mesh=mesh,
    )
    if wanted.get("checkpoints") == "around":
        checkpoint_around(model)
    for module in FullyShardedDataParallel.fsdp_modules(model) if mixed else ():
        if module._has_params and module._flat_param.requires_grad and module._flat_param.dtype != torch.float32:
            module._flat_param.data = module._flat_param.data.to(torch.float32)
            module._handle._orig_param_dtype = torch.float32
    return model


def checkpoint_around(model: Any) -> None:
    """Have reentrant checkpoints run the wrapped layers, as transformers before 4.53 does."""
    model.gradient_checkpointing_disable()
    classes = layer_classes(model)
    apply_activation_checkpointing(
        model,
        checkpoint_wrapper_fn=functools.partial(checkpoint_wrapper, checkpoint_impl=CheckpointImpl.REENTRANT),
        check_fn=lambda module: type(getattr(module, "_fsdp_wrapped_module", None)) in classes,
    )


def wrap_2(case: dict[str, Any], model: Any, mesh: Any) -> Any:
    """Accelerate's own fsdp2_prepare_model (accelerate 1.15 utils/fsdp_utils.py:746), or a plain program's wrapping."""
    wanted = case["parallelism"]
    mixed = build.dtype_of(case["autocast"]) if case.get("autocast") else None
    reduced = build.dtype_of(wanted["reduce_dtype"]) if wanted.get("reduce_dtype") else mixed
    policy = MixedPrecisionPolicy(
        param_dtype=mixed, reduce_dtype=reduced, output_dtype=mixed if not wanted.get("plain") else None
    )
    offload = CPUOffloadPolicy(pin_memory=True) if wanted.get("offload") else OffloadPolicy()
    reshard = wanted.get("reshard_after_forward", True)
    if wanted.get("plain"):
        classes = layer_classes(model)
        options = {"mesh": mesh, "mp_policy": policy, "offload_policy": offload}
        for module in [m for m in model.modules() if type(m) in classes and wanted.get("wrap") != "none"]:
            fully_shard(module, reshard_after_forward=reshard, **options)
        return fully_shard(model, **options)
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    plugin = SimpleNamespace(
        auto_wrap_policy=None,
        set_auto_wrap_policy=lambda _: None,
        reshard_after_forward=reshard,
        cpu_offload=offload,
        mixed_precision_policy=policy if mixed else None,
        ignored_modules=None,
        cpu_ram_efficient_loading=False,
        transformer_cls_names_to_wrap=None,
    )
    shared = "sequence" in wanted or "tensor" in wanted
    names = ("dp_shard_cp",) if shared else mesh.mesh_dim_names
    if shared and wanted.get("replicas", 1) > 1:
        names = ("dp_replicate", *names)
    plugin.auto_wrap_policy = transformer_auto_wrap_policy
    plugin.transformer_cls_names_to_wrap = [kind.__name__ for kind in layer_classes(model)]
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision=case.get("autocast") or "no",
        is_main_process=True,
        device=torch.device("cuda", 0),
        torch_device_mesh=mesh if shared else {mesh.mesh_dim_names: mesh},
        parallelism_config=SimpleNamespace(fsdp_dim_names=names),
    )
    return fsdp2_prepare_model(accelerator, model)


def engine_1(case: dict[str, Any], model: Any, _: Storages) -> Engine:
    """FSDP 1: accelerate wraps the forward in autocast, then the model; parameters stay whole under `no_sync`."""
    training.autocast(case, model, "cuda")
    wrapped = wrap_1(case, model)
    no_sync = contextlib.nullcontext if case["parallelism"].get("sync_each_batch") else wrapped.no_sync
    return training.plain_engine(case, wrapped, no_sync)


def engine_2(case: dict[str, Any], model: Any, _: Storages) -> Engine:
    """FSDP 2: accelerate's preparation leaves the forward alone (accelerate 1.15 accelerator.py:1674)."""
    if "tensor" in case["parallelism"]:
        model = plan_runs.distributed(case, model)
    mesh = mesh_of(case["parallelism"])
    around = sequence_runs.ring(case, model, mesh["cp"] if sequence_runs.ranks_of(case) > 1 else None)
    wrapped = wrap_2(case, model, mesh)

    @contextlib.contextmanager
    def no_sync() -> Iterator[None]:
        wrapped.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            wrapped.set_requires_gradient_sync(True)

    engine = training.plain_engine(
        case, wrapped, contextlib.nullcontext if case["parallelism"].get("sync_each_batch") else no_sync
    )
    engine.around = around
    return engine

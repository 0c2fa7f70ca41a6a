"""Ranks that share matrices by the plan of a model of transformers (5.23 distributed/), as the Trainer trains them."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from bench.sharding import training
from bench.sharding.counting import Storages
from bench.sharding.training import Engine


def distributed(case: dict[str, Any], model: Any) -> Any:
    """What `from_pretrained(tp_plan="auto")` makes of a model before its weights are loaded."""
    from transformers.integrations import tensor_parallel

    wanted = case["parallelism"]
    ranks = wanted["tensor"]
    tied = model.config.tie_word_embeddings
    if tied:  # weights are tied behind the plan, with those that are loaded
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    if hasattr(tensor_parallel, "distribute_model"):
        _before_dtensors(model, wanted["world"], ranks)
    else:
        from transformers.distributed import DistributedConfig
        from transformers.distributed.utils import initialize_distributed_mesh

        config = DistributedConfig(tp_size=ranks, tp_plan="auto", fsdp_size=wanted["world"] // ranks)
        with _disable_current_modes():
            _, meshes = initialize_distributed_mesh(config)
        model = type(model).maybe_distribute_model(model, config, meshes)
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def _before_dtensors(model: Any, world: int, ranks: int) -> None:
    """Of transformers 5.0 to 5.15 (integrations/tensor_parallel.py), whose ranks have plain tensors."""
    from torch.distributed.device_mesh import init_device_mesh
    from transformers.integrations.tensor_parallel import distribute_model, shard_and_distribute_module

    with _disable_current_modes():
        mesh = init_device_mesh("cuda", (world // ranks, ranks), mesh_dim_names=("dp", "tp"))["tp"]
    distribute_model(model, "auto", None, mesh, ranks)
    for name, weight in list(model.named_parameters()):
        empty = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
        shard_and_distribute_module(model, weight, empty, name, weight.dtype, True, 0, mesh)
        owner, _, own = name.rpartition(".")
        module = model.get_submodule(owner)
        module._parameters[own] = torch.nn.Parameter(module._parameters[own].detach().clone())


def engine(case: dict[str, Any], model: Any, storages: Storages) -> Engine:
    """A model whose matrices all ranks share; accelerate wraps its forward in autocast and nothing else."""
    from torch.distributed.tensor import DTensor
    from transformers import Trainer

    model = distributed(case, model)
    training.autocast(case, model, storages.device)
    found = training.plain_engine(case, model, contextlib.nullcontext)
    groups = []
    for group in found.optimizer.param_groups:  # Trainer.create_optimizer
        for divided in (True, False):
            members = [p for p in group["params"] if isinstance(p, DTensor) == divided]
            groups += [{**group, "params": members}] if members else []
    found.optimizer.param_groups = groups
    if any(isinstance(p, DTensor) for p in model.parameters()):
        found.clip = lambda norm: Trainer._mixed_mesh_grad_norm(None, model, norm)
    return found

"""DeepSpeed's ZeRO engines, set up as accelerate 1.15 does it: over fake tensors, or over real ones on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from bench.gpu.optimizers import groups, make_optimizer
from bench.sharding import sequence_runs, training
from bench.sharding.counting import Storages
from bench.sharding.quantizer import Quantizer
from bench.sharding.training import Engine

os.environ.setdefault("DS_ACCELERATOR", "cuda")
os.environ["DS_IGNORE_CUDA_DETECTION"] = "1"

import deepspeed
from deepspeed.ops.op_builder import CPUAdamBuilder, QuantizerBuilder
from deepspeed.runtime.zero import parameter_offload, partition_parameters, partitioned_param_coordinator
from deepspeed.utils import groups as groups_of_deepspeed
from torch.utils._python_dispatch import _disable_current_modes

ZERO = {
    "stage": "stage",
    "reduce_bucket": "reduce_bucket_size",
    "allgather_bucket": "allgather_bucket_size",
    "overlap_comm": "overlap_comm",
    "contiguous_gradients": "contiguous_gradients",
    "sub_group": "sub_group_size",
    "prefetch_bucket": "stage3_prefetch_bucket_size",
    "persistence_threshold": "stage3_param_persistence_threshold",
    "max_live": "stage3_max_live_parameters",
    "max_reuse": "stage3_max_reuse_distance",
    "round_robin": "round_robin_gradients",
    "reduce_scatter": "reduce_scatter",
    "hpz": "zero_hpz_partition_size",
    "quantized_weights": "zero_quantized_weights",
    "quantized_frozen": "zero_quantized_nontrainable_weights",
    "quantized_gradients": "zero_quantized_gradients",
    "mics": "mics_shard_size",
    "hierarchical": "mics_hierarchical_params_gather",
}
"""Words of a case to keys of zero_optimization."""


class NoKernels:
    """The compiled part of DeepSpeedCPUAdam, which allocates nothing."""

    def __getattr__(self, _: str) -> Any:
        """A kernel that does nothing."""
        return lambda *_args, **_kwargs: None


def config_of(case: Mapping[str, Any]) -> dict[str, Any]:
    """The DeepSpeed configuration of a case."""
    wanted = case["parallelism"]
    zero: dict[str, Any] = {key: wanted[word] for word, key in ZERO.items() if word in wanted}
    pinned = wanted.get("pin_memory", True)
    for section, word in (("offload_optimizer", "offload"), ("offload_param", "offload_parameters")):
        if wanted.get(word):
            zero[section] = {"device": wanted[word], "pin_memory": pinned}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": case["batch"],
        "gradient_accumulation_steps": case["accum"],
        "gradient_clipping": case["max_grad_norm"],
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
    }
    if case.get("autocast"):
        config[case["autocast"]] = {"enabled": True}
    if wanted.get("tensor"):
        config["tensor_parallel"] = {"autotp_size": wanted["tensor"]}
    if wanted.get("accumulation_dtype"):
        config["data_types"] = {"grad_accum_dtype": wanted["accumulation_dtype"]}
    return config


def _is_weight(master: Any, weights: list[Any]) -> bool:
    """Whether a flat partition is the weights' own memory: a float32 model has no other master."""
    storage = master.untyped_storage()._cdata
    return any(weight.untyped_storage()._cdata == storage for weight in weights)


def _held(parameter: Any) -> list[Any]:
    """What a rank has of a parameter: its partition, the secondary one that stays, and the scales of 8-bit ones."""
    parts = [getattr(parameter, "ds_tensor", parameter), getattr(parameter, "ds_secondary_tensor", None)]
    parts = [part for part in parts if part is not None]
    return [*parts, *(part.ds_quant_scale for part in parts if hasattr(part, "ds_quant_scale"))]


def engine(case: dict[str, Any], model: Any, storages: Storages) -> Engine:
    """`deepspeed.initialize` over the model."""
    wanted = case["parallelism"]
    CPUAdamBuilder.load = lambda *_, **__: NoKernels()
    QuantizerBuilder.load = lambda *_, **__: Quantizer
    torch.cuda.device_count = lambda: wanted.get("per_node", wanted["world"])
    for module in (parameter_offload, partition_parameters, partitioned_param_coordinator):
        if storages.device == "cuda" and hasattr(module, "assert_ints_same_as_other_ranks"):  # no other rank answers
            module.assert_ints_same_as_other_ranks = lambda *_: None
    offloaded = wanted.get("offload")
    if offloaded:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        optimizer = DeepSpeedCPUAdam(groups(model), lr=1e-5)
    else:
        optimizer = make_optimizer(case["optimizer"], model)
    if wanted.get("tensor"):
        make = groups_of_deepspeed._init_tp_mesh_device

        def of_real_tensors(*args: Any, **kwargs: Any) -> Any:
            with _disable_current_modes():
                return make(*args, **kwargs)

        groups_of_deepspeed._init_tp_mesh_device = of_real_tensors
    mpu, around, loss_of = sequence_runs.ulysses(case, model)
    wrapped, optimizer, _, _ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=config_of(case), dist_init_required=False, mpu=mpu
    )
    if wanted.get("tensor"):  # before the first forward, ranks compare their batches
        wrapped.first_dataloader_check.remove()
    zero = wrapped.optimizer

    def held() -> dict[str, Any]:
        stepped = getattr(zero, "optimizer", zero)  # a float32 model without ZeRO has the optimizer itself
        states = [v for state in stepped.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
        masters = getattr(zero, "fp32_partitioned_groups_flat", None)  # stage 3 hands them to the optimizer one by one
        masters = masters or [p for group in stepped.param_groups for p in group["params"]]
        weights = [held for p in wrapped.module.parameters() for held in _held(p)]
        return training.states_of(
            weights,
            [m for m in masters if m.dtype == torch.float32 and not _is_weight(m, weights)],
            states,
            device=storages.device,
        )

    return Engine(
        wrapped,
        zero,
        wrapped.backward,
        lambda _: None,
        lambda: None,
        lambda: None,
        every_batch=wrapped.step,
        around=around,
        loss_of=loss_of,
        held=held,
    )

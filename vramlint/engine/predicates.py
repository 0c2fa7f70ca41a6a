"""Conditions that the expression language cannot say. A rule names one as `predicate = "…"`.

A predicate takes the scope and gives the message's extra words, or None when it does not hold or cannot be known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.engine.names import GIB, Scope
from vramlint.engine.rollouts import cache_bytes_per_token, rows_at_once
from vramlint.estimate import Estimate
from vramlint.facts import Remark
from vramlint.job import DTYPE_BYTES, Job
from vramlint.resolve.quantized_names import quantized_name

Predicate = Callable[[Scope], str | None]


def batch_product_mismatch(scope: Scope) -> str | None:
    """A written global batch size that is not micro batch size x accumulation x world size.

    With an unknown world size, or an accumulation that nobody gives and DeepSpeed computes
    (`_set_batch_related_parameters`): one that is no multiple of the others. DeepSpeed refuses such a configuration:
    `deepspeed.runtime.config.DeepSpeedConfig._batch_assertion` (0.19.8). GPUs that share a sequence, the matrices or
    the layers count once.
    """
    if scope.lookup("origin.global_batch_size") != "written":
        return None
    total, micro, accumulation = (scope.lookup(f"facts.{name}") for name in _BATCH)
    if not (isinstance(total, int) and isinstance(micro, int) and isinstance(accumulation, int)):
        return None
    if scope.run is not None and any(_is_said_twice(remark) for remark in scope.run.remarks):
        return None  # which of the two numbers is meant, contradicting-values asks
    if not _is_deepspeeds_own(scope):
        return None  # a hand-written loop has loaders of its own sizes, which DeepSpeed does not look at
    given = (micro, accumulation) if _is_given(scope) else (micro,)
    world = _data_parallel(scope)
    parts = given if world is None else (*given, world)
    product, words = math.prod(parts), " × ".join(map(str, parts))
    if len(parts) == len(_BATCH):
        return None if product == total else f"{words} = {product}, not {total}"
    return None if product > 0 and total % product == 0 else f"{total} is no multiple of {words}"


def _is_said_twice(remark: Remark) -> bool:
    """Whether two files contradict each other in one of the numbers that are multiplied."""
    return remark.kind == "contradicting-values" and remark.subject in _BATCH_KEYS


def _is_given(scope: Scope) -> bool:
    """Whether somebody says how many micro batches a step has: the configuration, or a trainer that fills it in."""
    origin = scope.lookup("origin.gradient_accumulation_steps")
    trained = scope.lookup("facts.loop") in ("trainer", "accelerate")
    return origin == "written" or (trained and origin == "default")


def _data_parallel(scope: Scope) -> int | None:
    """GPUs that each have batches of their own, None where nobody says how many there are."""
    world = scope.lookup("facts.world_size")
    if not isinstance(world, int) or not _is_known_world(scope):
        return None
    for name in ("context_parallel", "tensor_parallel", "pipeline_parallel"):
        shared = scope.lookup(f"facts.{name}")
        if isinstance(shared, int) and shared > 0:
            if world % shared:
                return None
            world //= shared
    return world


def _is_deepspeeds_own(scope: Scope) -> bool:
    """Whether the micro batch size is DeepSpeed's: written for it, or given to it by a Trainer or Accelerate."""
    run = scope.run
    fact = run.get("micro_batch_size") if run else None
    said = fact is not None and fact.key == "train_micro_batch_size_per_gpu"
    return said or (run is not None and run.kind == "data") or scope.lookup("facts.loop") in ("trainer", "accelerate")


_BATCH_KEYS = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
_BATCH = ("global_batch_size", "micro_batch_size", "gradient_accumulation_steps")


def unsharded_gradients(scope: Scope) -> str | None:
    """FSDP whose whole gradients decide that the step does not fit: what they take beyond this GPU's share of them.

    Without synchronisation, in all micro batches but the last, FSDP keeps the gradient of every parameter whole, in
    the dtype of the reduction (torch 2.13 distributed/fsdp/_fully_shard/_fsdp_param_group.py, _runtime_utils.py).
    """
    job, estimate = _worst(scope)
    if job is None or estimate is None or scope.run is None or scope.run.gpu is None:
        return None
    shared = job.parallelism
    if shared.strategy != "fsdp" or shared.fsdp_sharding == "none" or shared.sync_each_batch or shared.world_size < 2:
        return None
    if job.batch.gradient_accumulation_steps < 2:
        return None
    held = sum(amount.bytes for amount in estimate.components if amount.name == "gradients")
    whole = estimate.trainable_parameters * DTYPE_BYTES[job.precision.autocast or job.precision.weights]
    beyond = min(held, whole) * (shared.world_size - 1) // shared.world_size
    return f"{beyond / GIB:.2f} GiB" if _decide(beyond, estimate, scope.run.gpu.usable_bytes) else None


def unsharded_model(scope: Scope) -> str | None:
    """ZeRO stage 3 that has a whole small model on every GPU at the peak of a step that does not fit.

    A parameter that is needed again within `stage3_max_reuse_distance` elements is not released, and prefetching runs
    ahead of the modules until `stage3_max_live_parameters` elements are gathered: either is enough for it (deepspeed
    0.19 runtime/zero/partitioned_param_coordinator.py, __params_to_release and fetch_sub_module).
    """
    job, estimate = _worst(scope)
    if job is None or estimate is None or scope.run is None or scope.run.gpu is None:
        return None
    zero, shared = job.parallelism.zero, job.parallelism
    if zero is None or zero.stage != _STAGE_3 or shared.world_size < 2:
        return None
    whole = estimate.total_parameters * DTYPE_BYTES[job.precision.autocast or job.precision.weights]
    gathered = sum(amount.bytes for amount in estimate.components if amount.name == "gathered parameters")
    if gathered < _WHOLE * whole or estimate.device_need <= scope.run.gpu.usable_bytes:
        return None
    return f"{whole * (shared.world_size - 1) // shared.world_size / GIB:.2f} GiB"


def whole_accumulated_gradients(scope: Scope) -> str | None:
    """BF16_Optimizer whose whole float32 gradients decide that the step does not fit.

    DeepSpeed takes it at stage 1 where bfloat16's gradients are accumulated in float32: a flat buffer of all of them
    lies on every GPU, where stage 2 has one of its part (deepspeed 0.19 runtime/engine.py, _do_optimizer_sanity_check;
    runtime/bf16_optimizer.py, fp32_groups_gradients_flat).
    """
    job, estimate = _worst(scope)
    if job is None or estimate is None or scope.run is None or scope.run.gpu is None:
        return None
    zero, ranks = job.parallelism.zero, job.parallelism.data_parallel
    if zero is None or zero.stage != 1 or ranks < 2 or zero.gradient_accumulation_dtype != _WIDE:
        return None
    if job.parallelism.neox is not None and job.parallelism.neox.engine:
        return None  # stages of a pipeline go with no higher stage of ZeRO (deepspeed 0.19 runtime/pipe/engine.py)
    whole = estimate.trainable_parameters * DTYPE_BYTES[_WIDE]
    held = sum(amount.bytes for amount in estimate.components if amount.name == "gradients")
    beyond = min(held, whole) * (ranks - 1) // ranks
    return f"{beyond / GIB:.2f} GiB" if _decide(beyond, estimate, scope.run.gpu.usable_bytes) else None


def accumulated_gradients(scope: Scope) -> str | None:
    """Gradients of earlier micro batches that decide, beside the activations of the next one, that a step does not fit.

    `zero_grad` frees gradients before the first micro batch of a step; those of the others find all of them there
    (transformers 5.23 trainer.py, training_step). What divides gradients leaves less of them.
    """
    job, estimate = _worst(scope)
    if job is None or estimate is None or scope.run is None or scope.run.gpu is None:
        return None
    if job.batch.gradient_accumulation_steps < 2 or job.parallelism.strategy not in _WHOLE_GRADIENTS:
        return None
    alive = {amount.name: amount.bytes for amount in estimate.components}
    held = min(alive.get("gradients", 0), estimate.gradients)
    kept = alive.get("activations", 0) + alive.get("logits and loss", 0)
    if held < _WHOLE * estimate.gradients or 2 * kept < estimate.saved_activations:
        return None  # the peak is where backward ends, and one micro batch has all gradients too
    if held * _MATERIAL < scope.run.gpu.usable_bytes:
        return None
    return f"{held / GIB:.2f} GiB" if _decide(held, estimate, scope.run.gpu.usable_bytes) else None


def unquantized_arrival(scope: Scope) -> str | None:
    """A base that is quantized while transformers 5.0 to 5.3 load it, and whose 16-bit weights do not fit.

    Threads bring weights to the device as they are in the checkpoint, and nothing keeps them from running ahead of the
    quantizer (core_model_loading.py, convert_and_load_state_dict_in_model; since 5.4 nothing runs ahead:
    huggingface/transformers#44576). LLM.int8() halves what is wider.
    """
    job, estimate = _worst(scope)
    if job is None or estimate is None or scope.run is None or scope.run.gpu is None or job.quantization is None:
        return None
    if job.quantization.kind not in _QUANTIZED_ON_ARRIVAL or quantized_name(job.model.name) is not None:
        return None
    width = _HALF if job.quantization.kind == "int8" else DTYPE_BYTES[job.precision.weights]
    whole, usable = estimate.total_parameters * width, scope.run.gpu.usable_bytes
    if whole + estimate.outside <= usable or estimate.device_need > usable:
        return None
    return f"{whole / GIB:.2f} GiB"


def rollouts_exceed(scope: Scope) -> str | None:
    """GRPO's samples, generated by transformers, whose key/value cache does not fit beside weights and states.

    All samples of a generation batch are in one call of `generate` (trl 1.16 trainer/grpo_trainer.py, _generate), and
    their cache grows until the last one ends. Prompts are left out, and gradients are not there.
    """
    run, estimate = scope.run, scope.high
    if run is None or run.gpu is None or estimate is None:
        return None
    job = run.jobs[scope.estimates.index(estimate)]
    length, engine = scope.lookup("facts.completion_length"), scope.lookup("facts.inference_engine")
    if scope.lookup("facts.objective") != "grpo" or engine == "vllm" or not isinstance(length, int):
        return None
    per_token = cache_bytes_per_token(job)
    if per_token is None or job.parallelism.strategy not in _WHOLE_GRADIENTS:
        return None
    rows = rows_at_once(job, scope.lookup("facts.steps_per_generation"), scope.lookup("facts.generation_batch_size"))
    cache = rows * length * per_token
    held = estimate.allocated - estimate.gradients + estimate.outside
    if held > run.gpu.usable_bytes or held + cache <= run.gpu.usable_bytes:
        return None
    return (
        f"{rows} samples of up to {length} tokens need a key/value cache of {cache / GIB:.2f} GiB, beside "
        f"{held / GIB:.2f} GiB of weights and optimizer states"
    )


def unbalanced_stages(scope: Scope) -> str | None:
    """A pipeline whose first or last stage alone is too much, while the GPUs between have room for its share.

    The first stage holds the embedding and the most micro batches in flight, the last one the output head and the
    logits; Megatron-LM gives all the same number of layers unless told otherwise.
    """
    _, estimate = _worst(scope)
    if estimate is None or scope.run is None or scope.run.gpu is None or len(estimate.ranks) < 2:
        return None
    usable = scope.run.gpu.usable_bytes
    peaks = [peak.device for peak in estimate.ranks]
    worst = peaks.index(max(peaks))
    if worst not in (0, len(peaks) - 1) or peaks[worst] <= usable or sum(peaks) > usable * len(peaks):
        return None
    other = peaks[1] if worst == 0 else peaks[-2]
    which = "first" if worst == 0 else "last"
    return f"the {which} needs {peaks[worst] / GIB:.2f} GiB, the one next to it {other / GIB:.2f} GiB"


def uneven_ranks(scope: Scope) -> str | None:
    """Ranks of which the worst has not the room that it needs, and others have: which it is, and what it holds."""
    _, estimate = _worst(scope)
    if estimate is None or scope.run is None or scope.run.gpu is None or not estimate.ranks:
        return None
    worst = max(estimate.ranks, key=lambda rank: rank.device)
    others = [rank.device for rank in estimate.ranks if rank.device <= scope.run.gpu.usable_bytes]
    if not others or worst.device <= scope.run.gpu.usable_bytes:
        return None
    count = sum(rank.ranks for rank in estimate.ranks)
    holds = f", which holds {worst.holds}," if worst.holds else ""
    ranks = f" ({worst.ranks} of {count} ranks)" if worst.ranks > 1 else ""
    return f"{worst.name}{ranks}{holds} needs {worst.device / GIB:.2f} GiB, others {max(others) / GIB:.2f} GiB"


def uneven_secondary_partition(scope: Scope) -> str | None:
    """Groups of ZeRO++'s secondary partition that the GPUs cannot be cut into.

    deepspeed 0.19.8 utils/groups.py, _create_zero_param_parallel_group: the groups are ranks that follow each other,
    and of one size, or an assertion fails.
    """
    size, world = scope.lookup("facts.hpz_partition_size"), scope.lookup("facts.world_size")
    if not isinstance(size, int) or size < 2 or scope.lookup("facts.zero_stage") != _STAGE_3:
        return None
    if isinstance(world, int) and _is_known_world(scope) and world % min(size, world):
        return f"{world} GPUs cannot be cut into groups of {size}: the engine stops with an assertion"
    return None


def wide_secondary_partition(scope: Scope) -> str | None:
    """Groups of ZeRO++'s secondary partition that reach over machines, between which they are there to save traffic."""
    size, machine = scope.lookup("facts.hpz_partition_size"), scope.lookup("facts.gpus_per_node")
    world = scope.lookup("facts.world_size")
    if scope.lookup("facts.zero_stage") != _STAGE_3 or uneven_secondary_partition(scope):
        return None
    if not isinstance(size, int) or not isinstance(world, int) or not _is_known_world(scope):
        return None
    if not isinstance(machine, int) or min(machine, world) % min(size, world) == 0:
        return None
    return f"groups of {min(size, world)} on machines with {machine} GPUs"


def _is_known_world(scope: Scope) -> bool:
    declared = scope.run is not None and scope.lookup("reason.world_size") == "declared"
    return declared or scope.lookup("origin.world_size") != "assumed"


_STAGE_3 = 3
_MATERIAL = 50
"""A part of the GPU's memory (2 %) below which something is no advice: adapters' gradients, as a rule."""
_HALF = 2
_QUANTIZED_ON_ARRIVAL = ("nf4", "fp4", "int8")
"""What bitsandbytes makes of a checkpoint on the device."""
_WIDE = "float32"
_WHOLE_GRADIENTS = ("none", "ddp", "dataparallel")
"""Strategies under which every GPU has the gradients of all weights."""
_WHOLE = 0.9
"""Part from which on something counts as whole: the modules that ran last may be released, the next not be there."""


def _decide(beyond: int, estimate: Estimate, usable: int) -> bool:
    """Whether a step does not fit of which the tensors would, were there so many bytes less of them."""
    tensors = estimate.allocated + estimate.outside + estimate.above
    return tensors - beyond <= usable < estimate.device_need


def _worst(scope: Scope) -> tuple[Job | None, Estimate | None]:
    """The job that needs the most, and its estimate, where both are simulated."""
    if scope.run is None or scope.high is None or scope.high.method != "simulated":
        return None, None
    pairs = zip(scope.run.jobs, scope.estimates, strict=True)
    return next(((job, estimate) for job, estimate in pairs if estimate is scope.high), (None, None))


PREDICATES: Mapping[str, Predicate] = MappingProxyType(
    {
        "batch-product-mismatch": batch_product_mismatch,
        "unsharded-gradients": unsharded_gradients,
        "unsharded-model": unsharded_model,
        "whole-accumulated-gradients": whole_accumulated_gradients,
        "accumulated-gradients": accumulated_gradients,
        "rollouts-exceed": rollouts_exceed,
        "unquantized-arrival": unquantized_arrival,
        "unbalanced-stages": unbalanced_stages,
        "uneven-ranks": uneven_ranks,
        "uneven-secondary-partition": uneven_secondary_partition,
        "wide-secondary-partition": wide_secondary_partition,
    }
)
"""All predicates by the name that rules use."""

"""Changed jobs, and the facts that differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.catalog.liger import kernels_of
from vramlint.facts import FactValue
from vramlint.job import Adapter, Checkpointing, Evaluation, Job, Quantization, Zero

Changes = Mapping[str, FactValue]
"""Fact names to their new values."""

LORA_RANK = 16


def with_checkpoints(job: Job) -> Job:
    """Every layer is recomputed."""
    engine = job.parallelism.megatron
    if engine is not None:
        engine = replace(engine, recompute="full", recompute_method="uniform", recompute_layers=1)
        job = replace(job, parallelism=replace(job.parallelism, megatron=engine))
    return replace(job, checkpointing=Checkpointing("nonreentrant"))


def with_distributed_optimizer(job: Job) -> Job:
    """Megatron's ranks share the optimizer's states."""
    engine = job.parallelism.megatron
    divided = None if engine is None else replace(engine, distributed_optimizer=True)
    return replace(job, parallelism=replace(job.parallelism, megatron=divided))


def with_liger(job: Job) -> Job:
    """Liger's kernels, all that the model has."""
    kernels = kernels_of(job.model.model_type, {})
    return replace(job, objective=replace(job.objective, loss="fused"), kernels=kernels)


def smaller_batch(job: Job, micro_batch_size: int) -> Job:
    """The same sequences per optimizer step in more, smaller micro batches."""
    factor = job.batch.micro_batch_size // micro_batch_size
    accumulation = job.batch.gradient_accumulation_steps * factor
    batch = replace(job.batch, micro_batch_size=micro_batch_size, gradient_accumulation_steps=accumulation)
    return replace(job, batch=batch)


def batch_facts(job: Job, micro_batch_size: int) -> Changes:
    """The facts of `smaller_batch`."""
    batch = smaller_batch(job, micro_batch_size).batch
    return {
        "micro_batch_size": batch.micro_batch_size,
        "gradient_accumulation_steps": batch.gradient_accumulation_steps,
    }


def with_optimizer(name: str) -> Callable[[Job], Job]:
    """Another optimizer."""
    return lambda job: replace(job, optimizer=replace(job.optimizer, name=name))


def with_evaluation(**fields: int) -> Callable[[Job], Job]:
    """An evaluation with other fields."""

    def change(job: Job) -> Job:
        evaluation = replace(job.evaluation or Evaluation(), **fields)  # rows below name its fields
        return replace(job, evaluation=evaluation)

    return change


def with_autocast(job: Job) -> Job:
    """Computation in bfloat16."""
    return replace(job, precision=replace(job.precision, autocast="bfloat16", grad_scaler=False))


def with_bf16_weights(job: Job) -> Job:
    """Weights in bfloat16."""
    return replace(job, precision=replace(job.precision, weights="bfloat16", grad_scaler=False))


def with_cast_while_loading(job: Job) -> Job:
    """Weights that arrive on the device in the dtype that the program casts them to."""
    return replace(job, loading=None if job.loading is None else replace(job.loading, arrives=None))


def with_zero(**fields: int | str) -> Callable[[Job], Job]:
    """ZeRO with other fields."""

    def change(job: Job) -> Job:
        zero = replace(job.parallelism.zero or Zero(), **fields)  # rows below name Zero's fields
        return replace(job, parallelism=replace(job.parallelism, strategy="deepspeed", zero=zero))

    return change


def with_expandable_segments(job: Job) -> Job:
    """Segments that grow."""
    return replace(job, allocator=replace(job.allocator, expandable_segments=True))


def with_sharing(**fields: bool | str | int) -> Callable[[Job], Job]:
    """FSDP with other fields."""

    def change(job: Job) -> Job:
        shared = replace(job.parallelism, **fields)  # rows below name its fields
        return replace(job, parallelism=shared)

    return change


def sharing_facts(**fields: bool | str | int) -> Callable[[Job], Changes]:
    """The words of `--fsdp` for the job after `with_sharing`."""

    def facts(job: Job) -> Changes:
        shared = with_sharing(**fields)(job).parallelism
        word = _SHARDINGS[shared.fsdp_sharding, shared.replicas > 1]
        options = [
            name for name, on in (("auto_wrap", shared.fsdp_wraps_layers), ("offload", shared.fsdp_offload)) if on
        ]
        return {"fsdp": " ".join((word, *options))}

    return facts


FSDP_2 = (5, 10)
"""The transformers whose Trainer takes FSDP's second version unless it is told (training_args.py of 5.10.4)."""
FULL_SHARD = "full_shard auto_wrap"


def with_fsdp(job: Job) -> Job:
    """The Trainer's FSDP, of the version that it takes by itself, in the place of data parallelism."""
    version = 2 if job.libraries.transformers >= FSDP_2 else 1
    # accelerate 1.15 utils/dataclasses.py, set_state_dict_type: the first version gathers what it saves
    fields = {"fsdp_version": version, "fsdp_gathers_on_save": version == 1}
    return with_sharing(strategy="fsdp", fsdp_sharding="full", fsdp_wraps_layers=True, **fields)(job)


_SHARDINGS: Mapping[tuple[str, bool], str] = MappingProxyType(
    {
        ("full", False): "full_shard",
        ("full", True): "hybrid_shard",
        ("grad-op", False): "shard_grad_op",
        ("grad-op", True): "hybrid_shard_zero2",
        ("none", False): "no_shard",
        ("none", True): "no_shard",
    }
)


def with_sync(job: Job) -> Job:
    """FSDP reduces gradients after every micro batch."""
    return replace(job, parallelism=replace(job.parallelism, sync_each_batch=True))


def with_lora(job: Job) -> Job:
    """LoRA on all linear layers."""
    return replace(job, adapter=Adapter(r=LORA_RANK, target_modules="all-linear"))


def with_qlora(job: Job) -> Job:
    """LoRA on a base in 4 bits."""
    base = job if job.adapter is not None else with_lora(job)
    compute = "bfloat16" if job.gpu is None or job.gpu.bf16 else "float16"
    quantization = Quantization("nf4", double_quantization=True, compute_dtype=compute, prepared_for_kbit=True)
    return replace(base, quantization=quantization)


def always(changes: dict[str, FactValue]) -> Callable[[Job], Changes]:
    """The same facts for every job."""
    kept = MappingProxyType(changes)
    return lambda _job: kept

"""Whether a change can be made to a job: what its framework reads, and what the change could still do."""

from __future__ import annotations

from collections.abc import Callable

from vramlint.catalog.attention_kernels import supports
from vramlint.catalog.liger import FUSED_HEAD, kernels_of
from vramlint.job import DTYPE_BYTES, Gpu, Job

FOREACH_ADAM = ("adamw_torch", "adam_torch")
ADAM = (*FOREACH_ADAM, "adamw_torch_fused", "adamw_hf", "adamw_apex_fused")
"""Catalog names of Adam variants with two full-precision states on the GPU."""

LIGER_MIXTURES = frozenset({"deepseek_v2", "deepseek_v3", "hunyuan_v1_moe", "mixtral", "qwen3_moe", "qwen3_next"})
"""Models whose experts Liger computes in a kernel that is not simulated."""
STAGE3 = 3
_COMPARED = frozenset({"embedding-pairs", "embedding-triplets"})
"""Tasks whose loss compares all rows of a micro batch: another size is another loss."""
_UNSHARED = ("galore", "apollo", "lomo", "adalomo", "badam")
"""Optimizers that need whole gradients, by how their names begin: LLaMA-Factory 0.9 hparams/parser.py refuses them with
DeepSpeed."""


def is_trained(job: Job) -> bool:
    """The job trains."""
    return job.objective.kind == "training"


def free_of_deepspeed(job: Job) -> bool:
    """Nothing but DeepSpeed or plain data parallelism shares the model."""
    return job.parallelism.strategy in ("none", "ddp", "deepspeed")


def can_use_fused(job: Job, _gpu: Gpu) -> bool:
    """Adam's foreach update has a fused one."""
    return job.optimizer.name in FOREACH_ADAM and job.parallelism.zero is None and job.libraries.torch >= (2, 0)


def by_megatron(job: Job) -> bool:
    """Megatron-Core trains: with its own optimizers, and with the layers and attention of its own modules."""
    return job.parallelism.megatron is not None


def can_expand(job: Job, gpu: Gpu) -> bool:
    """Segments grow by the driver's virtual memory, which torch uses on NVIDIA's cards from 2.1 on."""
    settings = job.allocator
    other = settings.expandable_segments or settings.garbage_collection_threshold
    return gpu.compute_capability is not None and job.libraries.torch >= (2, 1) and not other


def can_checkpoint(job: Job, _gpu: Gpu) -> bool:
    """Nothing is recomputed so far."""
    engine = job.parallelism.megatron
    recomputes = engine is not None and engine.recompute == "full"
    return is_trained(job) and job.checkpointing.mode == "none" and not recomputes


def can_distribute(job: Job, _gpu: Gpu) -> bool:
    """Megatron's ranks that hold the same weights may share the states."""
    engine = job.parallelism.megatron
    if engine is None or engine.distributed_optimizer or not is_trained(job):
        return False
    return job.parallelism.world_size > engine.tensor * engine.pipeline


def can_shrink_batch(job: Job, _gpu: Gpu) -> bool:
    """A micro batch has several rows, and its gradients may wait for those of others."""
    apart = not job.optimizer.arguments.get("layerwise") and job.model.task not in _COMPARED
    return is_trained(job) and apart and job.batch.micro_batch_size > 1


def can_shrink_evaluation(job: Job, _gpu: Gpu) -> bool:
    """A batch of the evaluation has several rows."""
    return job.evaluation is not None and job.evaluation.micro_batch_size > 1


def can_move_logits(job: Job, _gpu: Gpu) -> bool:
    """The evaluation gathers its logits on the device."""
    evaluation = job.evaluation
    return evaluation is not None and evaluation.keeps_logits and evaluation.accumulation_batches is None


def can_fuse_loss(job: Job, _gpu: Gpu) -> bool:
    """Liger has a kernel for the model's head and loss, and the Trainer would apply it."""
    fuses = FUSED_HEAD in kernels_of(job.model.model_type, {}) and job.model.model_type not in LIGER_MIXTURES
    suits = fuses and job.objective.loss == "causal-lm" and not job.kernels and not by_megatron(job)
    return suits and job.objective.loop == "trainer" and job.libraries.transformers >= (4, 45)


def can_use_bf16(job: Job, gpu: Gpu) -> bool:
    """Everything is computed in float32 on a card that has bfloat16."""
    return gpu.bf16 and job.precision.autocast is None and job.precision.weights == "float32" and is_trained(job)


def can_load_bf16(job: Job, gpu: Gpu) -> bool:
    """Weights lie in float32 on such a card."""
    narrows = gpu.bf16 and job.precision.weights == "float32" and job.parallelism.zero is None
    return narrows and not by_megatron(job)


def takes_attention(job: Job, implementation: str) -> bool:
    """Whether the model's classes take an implementation of attention from their loader."""
    return supports(job.model.model_type, implementation, job.libraries.transformers) is True


def can_use_sdpa(job: Job, _gpu: Gpu) -> bool:
    """Attention is eager, and need not be."""
    return job.attention.implementation == "eager" and not by_megatron(job) and takes_attention(job, "sdpa")


def can_cast_while_loading(job: Job, _gpu: Gpu) -> bool:
    """The program narrows weights that lie on the device."""
    arrives = job.loading.arrives if job.loading is not None else None
    narrowed = arrives is not None and DTYPE_BYTES[arrives] > DTYPE_BYTES[job.precision.weights]
    return narrowed and job.quantization is None


def can_use_8bit(job: Job, _gpu: Gpu) -> bool:
    """The optimizer has one in 8 bits, which nobody refuses."""
    # DeepSpeed refuses optimizers that it has not tested with ZeRO (runtime/engine.py, zero_allow_untested_optimizer);
    # bitsandbytes' kernels take no DTensors, of which FSDP 2 and device meshes make every parameter
    shared = job.parallelism
    by_tensors = shared.mesh is not None or (shared.strategy == "fsdp" and shared.fsdp_version > 1)
    return job.optimizer.name in ADAM and shared.zero is None and not by_tensors and not by_megatron(job)


def can_use_stage(stage: int) -> Callable[[Job, Gpu], bool]:
    """Conditions of a stage of ZeRO."""

    def applies(job: Job, _gpu: Gpu) -> bool:
        zero = job.parallelism.zero
        quantized_above = job.quantization is not None and stage == STAGE3
        below = zero is None or zero.stage < stage
        apart = job.optimizer.name.startswith(_UNSHARED)
        return not apart and job.parallelism.world_size > 1 and free_of_deepspeed(job) and below and not quantized_above

    return applies


def can_offload_optimizer(job: Job, _gpu: Gpu) -> bool:
    """ZeRO's optimizer is on the device."""
    zero = job.parallelism.zero
    # A job without DeepSpeed would need a new launcher as well: offered only where ZeRO is in use already.
    return zero is not None and zero.stage >= 1 and zero.offload_optimizer == "none"


def can_offload_parameters(job: Job, _gpu: Gpu) -> bool:
    """Stage 3's parameters are on the device."""
    zero = job.parallelism.zero
    return zero is not None and zero.stage == STAGE3 and zero.offload_parameters == "none"


def by_fsdp(job: Job) -> bool:
    """FSDP shares the model, in a form that its own words say."""
    shared = job.parallelism
    return shared.strategy == "fsdp" and shared.world_size > 1 and shared.mesh is None


def can_use_fsdp(job: Job, _gpu: Gpu) -> bool:
    """The Trainer's processes each hold the whole model, all of which trains."""
    shared = job.parallelism
    plain = shared.strategy == "ddp" and shared.world_size > 1 and shared.mesh is None and shared.model_shards == 1
    whole = job.adapter is None and job.quantization is None and not job.optimizer.name.startswith(_UNSHARED)
    return is_trained(job) and plain and whole and job.objective.loop == "trainer"


def can_shard_fully(job: Job, _gpu: Gpu) -> bool:
    """FSDP keeps whole weights between forward and backward, or everything whole."""
    return by_fsdp(job) and job.parallelism.fsdp_sharding != "full"


def can_shard_across(job: Job, _gpu: Gpu) -> bool:
    """Every group of ranks holds the whole model."""
    return by_fsdp(job) and job.parallelism.replicas > 1 and job.parallelism.sharing > 1


def can_wrap_layers(job: Job, _gpu: Gpu) -> bool:
    """The whole model is gathered at once."""
    return by_fsdp(job) and not job.parallelism.fsdp_wraps_layers


def can_offload_shares(job: Job, _gpu: Gpu) -> bool:
    """FSDP's shares are on the device."""
    shared = job.parallelism
    return by_fsdp(job) and not shared.fsdp_offload and shared.fsdp_sharding != "none" and job.quantization is None


def can_sync(job: Job, _gpu: Gpu) -> bool:
    """FSDP keeps whole gradients between micro batches."""
    shared = job.parallelism
    holds = shared.strategy == "fsdp" and shared.fsdp_sharding != "none" and shared.world_size > 1
    return holds and not shared.sync_each_batch and job.batch.gradient_accumulation_steps > 1 and is_trained(job)


def can_adapt(job: Job, _gpu: Gpu) -> bool:
    """All weights of a model train that PEFT has adapters for."""
    suits = is_trained(job) and job.adapter is None and not by_megatron(job)
    return suits and job.model.task in ("causal-lm", "seq2seq-lm", "seq-cls")


def can_quantize(job: Job, _gpu: Gpu) -> bool:
    """The base may be quantized: nothing divides it."""
    return (
        is_trained(job)
        and job.quantization is None
        and not by_megatron(job)
        and (job.parallelism.zero is None or job.parallelism.zero.stage < STAGE3)
    )

"""Bytes that a step moves beside what GPUs send one another: to host memory, and through a GPU's own.

Of the latter only what differs between ways to compute the same: the update, eager attention's scores, the loss over
whole logits, and weights that are unpacked before each product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from vramlint.estimate import Estimate, Traffic
from vramlint.job import DTYPE_BYTES, Job

HOST, MEMORY = "host", "memory"
UNPACKED = "weights, unpacked"
FOUR_BITS = frozenset({"nf4", "fp4", "nf4-tensor"})
"""Kinds of quantized weights that are made 16-bit ones before each product (bitsandbytes 0.50 autograd/_functions.py,
MatMul4Bit: in forward and in backward)."""
SCORES: Mapping[str, tuple[int, int]] = MappingProxyType({"forward": (8, 8), "recomputed": (8, 8), "backward": (8, 12)})
"""How often each score of eager attention is read or written: in the dtype of the products, and bytes in float32 beside
those where that is narrower.

transformers 5.23 models/llama/modeling_llama.py, eager_attention_forward: product, scale, mask, softmax in float32,
cast, product.
"""
LOGITS: Mapping[str, tuple[int, int]] = MappingProxyType({"causal-lm": (5, 32), "fused": (6, 0)})
"""The same of each logit, by the loss.

transformers 5.23 loss/loss_utils.py, ForCausalLMLoss: product, cast, log_softmax and its derivative, cast, two
products; Liger's chunks: https://arxiv.org/abs/2410.10989, section 3.2.
"""


def offloaded(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """What one GPU exchanges with host memory for an optimizer step, in the direction that carries more.

    An offloaded optimizer gets 16-bit gradients and gives back weights, each once for a step (ZeRO-Offload,
    https://arxiv.org/abs/2101.06840, section 3); offloaded parameters come for each gather, forward and backward.
    """
    spread, zero = job.parallelism, job.parallelism.zero
    width = DTYPE_BYTES[job.precision.autocast or job.precision.weights]
    ranks = max(1, spread.sharing if spread.strategy == "fsdp" else spread.world_size)
    trained = estimate.trainable_parameters * width // ranks
    held = estimate.total_parameters * width // ranks
    gathers = 2 * job.batch.gradient_accumulation_steps
    optimizer = zero is not None and zero.offload_optimizer != "none"
    parameters = zero is not None and zero.offload_parameters != "none"
    if optimizer or spread.fsdp_offload:
        yield Traffic("gradients, to the host", HOST, trained, "16-bit gradients of a share")
    if optimizer and not parameters:
        yield Traffic("updated weights, from the host", HOST, trained, "16-bit weights of a share")
    if parameters or spread.fsdp_offload:
        yield Traffic("weights, from the host", HOST, gathers * held, f"{gathers} × weights of a share")


def updated(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """The least that an optimizer's update reads and writes: weights and states twice, gradients once."""
    zero = job.parallelism.zero
    if (zero is not None and zero.offload_optimizer != "none") or job.parallelism.fsdp_offload:
        return
    if not estimate.total_parameters:
        return
    share = _states_share(job)
    trained = estimate.gradients // share
    moved = 3 * trained + 2 * estimate.optimizer_states
    yield Traffic("optimizer's update", MEMORY, moved, "3 × trained weights + 2 × states")


def _states_share(job: Job) -> int:
    """Ranks that share the update."""
    spread = job.parallelism
    if spread.zero is not None and spread.zero.stage > 0:
        return max(1, spread.world_size)
    return spread.sharing if spread.strategy == "fsdp" and spread.fsdp_sharding != "none" else 1


def computed(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    """What micro batches move through the GPU's memory in ways that others avoid."""
    yield from _scores(job, estimate)
    yield from _logits(job)
    yield from _unpacked(job, estimate)


def _scores(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    size = _head_size(job)
    if job.attention.implementation != "eager" or not size or job.parallelism.megatron is not None:
        return
    width = DTYPE_BYTES[job.precision.autocast or job.precision.weights]
    total = count = 0
    for part, (often, wide) in SCORES.items():
        flops = sum(item.flops for item in estimate.work if item.kind == "attention" and item.part == part)
        products = 8 if part == "backward" else 4
        elements = flops // (products * size)
        total += elements * (often * width + (wide if width < DTYPE_BYTES["float32"] else 0))
        count = elements if part == "forward" else count
    batches = job.batch.gradient_accumulation_steps
    if total:
        yield Traffic("scores of eager attention", MEMORY, batches * total, f"{batches * total / count:.0f} × scores")


def _head_size(job: Job) -> int:
    config = job.model.config
    size, hidden = config.get("head_dim"), config.get("hidden_size") or config.get("n_embd")
    heads = config.get("num_attention_heads") or config.get("n_head")
    if isinstance(size, int) and size > 0:
        return size
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else 0


def _logits(job: Job) -> Iterator[Traffic]:
    found, vocabulary = LOGITS.get(job.objective.loss), job.model.config.get("vocab_size")
    if found is None or not isinstance(vocabulary, int) or job.parallelism.megatron is not None:
        return
    width = DTYPE_BYTES[job.precision.autocast or job.precision.weights]
    each = found[0] * width + found[1]
    batch = job.batch
    sequence = job.parallelism.sequence
    length = batch.sequence_length // (1 if sequence is None or sequence.of_rank else sequence.ranks)
    count = batch.gradient_accumulation_steps * batch.micro_batch_size * length * vocabulary
    yield Traffic("logits and loss", MEMORY, each * count, f"{each} bytes × logits")


def _unpacked(job: Job, estimate: Estimate) -> Iterator[Traffic]:
    if job.quantization is None or job.quantization.kind not in FOUR_BITS:
        return
    passes = 3 if any(item.part == "recomputed" for item in estimate.work) else 2
    times = passes * job.batch.gradient_accumulation_steps
    base = max(0, estimate.total_parameters - estimate.trainable_parameters)
    yield Traffic(UNPACKED, MEMORY, times * (base // 2 + 2 * base), f"{times} × base in 4 and in 16 bits")

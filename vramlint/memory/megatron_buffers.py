"""What a rank of Megatron-Core holds beside its weights: gradient buffers, master weights, optimizer states.

NVIDIA/Megatron-LM@d98e8a6 megatron/core/distributed/param_and_grad_buffer.py, megatron/core/optimizer/{optimizer,
distrib_optimizer}.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vramlint.job import DTYPE_BYTES, Job, Megatron
from vramlint.memory import megatron_optimizers, optimizers
from vramlint.memory.architectures.family import number
from vramlint.memory.holdings import Tensors
from vramlint.memory.megatron_optimizers import Owned
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates.update import Update

LOCAL = "local"
"""Megatron's own modules, by a rank's `implementation`."""
EXPERTS = ".experts."
"""In the names of parameters that expert parallelism divides."""


def replicas(job: Job, *, experts: bool) -> int:
    """Ranks with the same parameters, over which the distributed optimizer divides its states."""
    engine = job.parallelism.megatron or Megatron()
    tensor = engine.tensor if not experts or engine.expert_tensor is None else engine.expert_tensor
    sharing = tensor * engine.pipeline * (engine.expert if experts else 1)
    return max(1, job.parallelism.world_size // sharing // engine.instances)


class Held(NamedTuple):
    """What a rank has beside its weights."""

    persistent: tuple[Tensors, ...]
    """During every step."""
    states: tuple[Tensors, ...]
    """What the first optimizer step adds to it."""
    optimizer: tuple[Tensors, ...]
    """Inside the optimizer step."""
    backward: tuple[Tensors, ...]
    """During the backward of a micro batch that is not the first."""
    host: int = 0
    """Bytes in host memory."""


def held(job: Job, parameters: Sequence[Parameter]) -> Held:
    """What stays beside the weights, what the first optimizer step adds, and what each step adds while it runs.

    Gradients lie in buffers as long as the run; a product that adds to them at once returns a placeholder, one for
    all weights of a shape (TransformerEngine 2.8 pytorch/module/_common.py, get_dummy_wgrad). The optimizer widens
    16-bit ones until the next zero_grad (optimizer.py, _copy_model_grads_to_main_grads).
    """
    engine = job.parallelism.megatron or Megatron()
    trained = [p for p in parameters if p.requires_grad]
    narrow = job.precision.weights != "float32"
    wide = megatron_optimizers.MASTER_BYTES if narrow and engine.wide_gradients else DTYPE_BYTES[job.precision.weights]
    elements = sum(p.numel * p.multiplicity for p in trained)
    kept = [Tensors("gradients", wide * elements), Tensors("buffers", _shared_buffer(job))]
    shapes = {p.shape for p in trained if p.linear}
    if engine.fused_gradients:
        width = DTYPE_BYTES[job.precision.weights]
        kept += [Tensors("gradients", width * shape[0] * shape[1]) for shape in sorted(shapes)]
    update = optimizers.update_of(job)
    states: list[Tensors] = []
    inside: list[Tensors] = []
    host = 0
    for own, count in _owned(job, engine, trained, update):
        if own.master:
            kept.append(Tensors("master weights", own.master, count))
        states += [Tensors("optimizer states", size, count) for size in own.states]
        if own.gradient:
            inside.append(Tensors("gradients", own.gradient, count))
        inside += [Tensors("temporaries", own.passing, 1 if own.host else count)] if own.passing else []
        host += own.host * count
    return Held(tuple(kept), tuple(states), tuple(inside), _deferred(job, engine), host)


def _owned(
    job: Job, engine: Megatron, trained: Sequence[Parameter], update: Update | None
) -> Iterator[tuple[Owned, int]]:
    """What the optimizer has of each weight, and of how many like it.

    Where a part of them is updated on the host, of the rank that keeps the most on its device.
    """
    if not engine.host_fraction:
        for p in trained:
            parts = replicas(job, experts=EXPERTS in p.name) if engine.distributed_optimizer else 1
            local = _part(p.name, -(-p.numel // parts))
            yield megatron_optimizers.owned(engine, job.precision.weights, local, update), p.multiplicity
        return
    for experts in (False, True):  # an optimizer each
        members = [p for p in trained if (EXPERTS in p.name) is experts]
        parts = replicas(job, experts=experts) if engine.distributed_optimizer else 1
        pieces = megatron_optimizers.slices(members, parts, engine.host_fraction)
        rank = job.parallelism.rank
        own = max(pieces, key=megatron_optimizers.kept) if rank is None else pieces[rank // engine.tensor % parts]
        for (position, elements, away), count in Counter(own).items():
            share = megatron_optimizers.offloaded if away else megatron_optimizers.hybrid
            yield share(engine, _part(members[position].name, elements), update), count
        more = sum(map(megatron_optimizers.hosted, pieces)) // parts - megatron_optimizers.hosted(own)
        if rank is None and more > 0:  # the host has the pieces of ranks that leave it more
            yield Owned(host=megatron_optimizers.offloaded(engine, _part("", more), update).host), 1


def _part(name: str, elements: int) -> Parameter:
    """A rank's part of a weight, in float32."""
    return Parameter(name, (elements,), "float32", trainable=True, multiplicity=1)


def _deferred(job: Job, engine: Megatron) -> tuple[Tensors, ...]:
    """What waits for the head's weight: the head's input and the gradient of the logits, for so many micro batches.

    Of those before the one that runs (core/tensor_parallel/layers.py, embedding_activation_buffer and
    grad_output_buffer; core/utils.py, drain_embedding_wgrad_compute).
    """
    config, batch = job.model.config, job.batch
    waiting = batch.gradient_accumulation_steps - 1
    if engine.deferred is None or not config.get("last") or waiting < 1:
        return ()
    waiting = min(waiting, engine.deferred or waiting)
    tokens = batch.micro_batch_size * batch.sequence_length * DTYPE_BYTES[job.precision.weights]
    gathers = number(config, "tensor_ranks") if config.get("sequence") else 1
    return (
        Tensors("logits and loss", tokens * number(config, "vocab_size"), waiting),
        Tensors("logits and loss", tokens * number(config, "hidden_size") // gathers, waiting),
    )


def _shared_buffer(job: Job) -> int:
    """Bytes of the memory that Megatron's own modules share and never free (core/utils.py, GlobalMemoryBuffer).

    The first operand of the scores of its own attention (transformer/dot_product_attention.py), and the gathered
    sequence in front of its own column-parallel products, of which the head is always one.
    """
    config, batch = job.model.config, job.batch
    width = DTYPE_BYTES[job.precision.weights]
    local = config.get("implementation") == LOCAL
    longest = max(batch.sequence_length, batch.target_length or 0)
    elements = 0
    if local and job.attention.implementation == "eager":
        elements = batch.micro_batch_size * number(config, "num_attention_heads") * longest**2
    if config.get("sequence") and (local or config.get("last")):
        elements = max(elements, batch.micro_batch_size * longest * number(config, "hidden_size"))
    return width * elements

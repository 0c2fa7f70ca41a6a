"""What a rank of Megatron-Core holds beside its weights: gradient buffers, master weights, optimizer states.

NVIDIA/Megatron-LM@d98e8a6 megatron/core/distributed/param_and_grad_buffer.py, megatron/core/optimizer/{optimizer,
distrib_optimizer}.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES, Job, Megatron
from vramlint.memory import optimizers
from vramlint.memory.holdings import Tensors
from vramlint.memory.tensor import Parameter

MASTER_BYTES = 4
"""Of a float32 copy of a 16-bit weight, and of a gradient accumulated in float32."""


EXPERTS = ".experts."
"""In the names of parameters that expert parallelism divides."""


def replicas(job: Job, *, experts: bool) -> int:
    """Ranks with the same parameters, over which the distributed optimizer divides its states."""
    engine = job.parallelism.megatron or Megatron()
    tensor = engine.tensor if not experts or engine.expert_tensor is None else engine.expert_tensor
    sharing = tensor * engine.pipeline * (engine.expert if experts else 1)
    return max(1, job.parallelism.world_size // sharing // engine.instances)


def persistent(job: Job, parameters: Sequence[Parameter]) -> tuple[tuple[Tensors, ...], tuple[Tensors, ...]]:
    """What stays beside the weights during every step, and what the first optimizer step adds.

    Gradients lie in buffers as long as the run; a product that adds to them at once returns a placeholder, one for
    all weights of a shape (TransformerEngine 2.8 pytorch/module/_common.py, get_dummy_wgrad).
    """
    engine = job.parallelism.megatron or Megatron()
    trained = [p for p in parameters if p.requires_grad]
    narrow = job.precision.weights != "float32"
    wide = MASTER_BYTES if narrow and engine.wide_gradients else DTYPE_BYTES[job.precision.weights]
    elements = sum(p.numel * p.multiplicity for p in trained)
    held = [Tensors("gradients", wide * elements)]
    shapes = {p.shape for p in trained if p.linear}
    if engine.fused_gradients:
        width = DTYPE_BYTES[job.precision.weights]
        held += [Tensors("gradients", width * shape[0] * shape[1]) for shape in sorted(shapes)]
    update = optimizers.update_of(job)
    states: list[Tensors] = []
    for p in trained:
        parts = replicas(job, experts=EXPERTS in p.name) if engine.distributed_optimizer else 1
        share = -(-p.numel // parts)
        local = Parameter(p.name, (share,), "float32", trainable=True, multiplicity=p.multiplicity)
        if narrow:
            held.append(Tensors.of("master weights", p, MASTER_BYTES * share))
        if update is not None:
            states += [Tensors.of("optimizer states", p, size) for size in update.states(local)]
    return tuple(held), tuple(states)

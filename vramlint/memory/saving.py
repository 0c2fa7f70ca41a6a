"""Saving a model that FSDP shards, where the whole state dict comes together on every GPU.

FSDP 1 brings one unit after the other together in the dtype of its shares and clones its parameters; the root is whole
from the first unit to the last (torch 2.13 distributed/fsdp/_state_dict_utils.py, _full_pre_state_dict_hook and
_full_post_state_dict_hook, where `offload_to_cpu` is not set). torch's distributed checkpoints gather parameter by
parameter and keep each (distributed/_state_dict_utils.py, _gather_state_dict, without `cpu_offload`). A head that
shares the embedding's weight is gathered twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.job import DTYPE_BYTES, Job
from vramlint.memory.holdings import Tensors, total
from vramlint.memory.recorder import rounded
from vramlint.memory.tensor import LayerId, Parameter

WIDE = 4
"""Bytes of an element of what trains under mixed precision."""


def saving_peak(job: Job, parameters: Sequence[Parameter], persistent: Sequence[Tensors]) -> int:
    """Bytes at the highest point of a save; 0 where nothing is gathered on the device.

    `persistent` is what is there between two steps.
    """
    if not job.parallelism.fsdp_saves_on_device or job.parallelism.world_size < 2:
        return 0
    cloned: dict[LayerId | None, int] = {}
    units: dict[LayerId | None, int] = {}
    for p in parameters:
        unit, times = (p.layer, 1) if job.parallelism.fsdp_wraps_layers else (None, p.multiplicity)
        units[unit] = units.get(unit, 0) + stored_width(job, p) * p.numel * times
        copies = p.multiplicity * (2 if p.embedding and _is_tied(job, parameters) else 1)
        cloned[unit] = cloned.get(unit, 0) + rounded(stored_width(job, p) * p.numel) * copies
    whole = sum(cloned.values())
    if job.parallelism.fsdp_version == 2:
        return total(persistent) + whole
    root = rounded(units.pop(None, 0))
    last = max(max(map(rounded, units.values()), default=0) - cloned.get(None, 0), 0)
    return total(persistent) + whole + root + last


def stored_width(job: Job, p: Parameter) -> int:
    """Bytes of an element of FSDP's shares, which keep what trains in float32 beside a narrower computation."""
    return WIDE if job.precision.autocast is not None and p.requires_grad else DTYPE_BYTES[p.dtype]


def _is_tied(job: Job, parameters: Sequence[Parameter]) -> bool:
    """Whether the output head has no weight of its own."""
    return job.model.task == "causal-lm" and not any(p.head for p in parameters)

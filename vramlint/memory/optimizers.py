"""Optimizers: the states that they keep and what a step holds while it runs, from the catalog's rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from vramlint.catalog.optimizers import OptimizerRow, State, find_optimizer
from vramlint.job import DTYPE_BYTES, Optimizer
from vramlint.memory.recorder import rounded
from vramlint.memory.tensor import Parameter

PAGED_MINIMUM = 100_000
"""Smaller states are not paged (bitsandbytes 0.50 optim/optimizer.py, get_state_buffer)."""
QUANTIZATION_MAP = 1024
"""The 256-entry float32 map of one kind of 8-bit state, shared by all parameters."""
SCALE_BYTES = 4
"""The float32 scale of one block of a quantized state."""
STATE_BYTES = {"fp32": 4.0, "fp8": 1.0, "u8": 1.0, "u4": 0.5}
"""Bytes per element of a state's dtype word; `param` is the parameter's own dtype."""
STEP_COUNTERS = frozenset({"adamw_torch_fused"})
"""Optimizers that count the steps in a 4-byte device tensor per parameter (torch 2.13 optim/adam.py:178-190)."""


def rule_for(optimizer: Optimizer) -> OptimizerRow | None:
    """The catalog's row, None when the optimizer is unknown or its states have no simple form (low rank, by block)."""
    row = find_optimizer(optimizer.name)
    if row is None or row.low_rank or (row.state_bytes_fp32 and not row.states and not row.factored):
        return None
    if optimizer.momentum and not row.states:
        return row._replace(states=(State("momentum_buffer", "param"),))
    return row


def states(rule: OptimizerRow, parameter: Parameter, *, wide_embeddings: bool = False) -> list[int]:
    """Unrounded bytes of every device tensor that the optimizer keeps for one parameter.

    `wide_embeddings`: the Trainer keeps 32-bit states for embeddings where the others are quantized
    (transformers 5.23 trainer.py:1326-1340).
    """
    if rule.place == "host":
        return []
    sizes = [4] if rule.name in STEP_COUNTERS else []
    words = [state.dtype for state in rule.states]
    if DTYPE_BYTES[parameter.dtype] < 4:
        words += [state.dtype for state in rule.states_of_16bit]
    wide = wide_embeddings and parameter.embedding and rule.embedding_state_bytes is not None
    for word in words:
        sizes += _state(rule, "fp32" if wide else word, parameter)
    return sizes + (_factored(parameter) if rule.factored else [])


def host_states(rule: OptimizerRow, parameter: Parameter) -> int:
    """Bytes of the states that lie in host memory."""
    return int(parameter.numel * rule.host_bytes_fp32) if rule.place == "host" else 0


def _state(rule: OptimizerRow, word: str, parameter: Parameter) -> list[int]:
    elements, blocks = parameter.numel, rule.quantised
    quantized = word in {"u8", "u4"}
    if quantized and blocks is not None and elements < blocks.min_numel:
        quantized, word = False, blocks.small
    size = ceil(elements * STATE_BYTES.get(word, DTYPE_BYTES[parameter.dtype]))
    paged = rule.place == "managed" and elements >= PAGED_MINIMUM
    values = [] if paged else [size]
    if not quantized or blocks is None:
        return values
    return [*values, ceil(elements / blocks.block) * SCALE_BYTES]


def _factored(parameter: Parameter) -> list[int]:
    """Row and column sums per matrix, a full vector otherwise, and the RMS (transformers 5.23 optimization.py)."""
    shape = parameter.shape
    if len(shape) < 2:
        return [parameter.numel * 4, 4]
    return [parameter.numel // shape[-1] * 4, parameter.numel // shape[-2] * 4, 4]


def shared_states(rule: OptimizerRow, parameters: Sequence[Parameter]) -> list[int]:
    """Bytes of tensors that all states share: the quantization maps of a bitsandbytes 8-bit optimizer."""
    blocks = rule.quantised
    if blocks is None or blocks.small != "fp32" or all(p.numel < blocks.min_numel for p in parameters):
        return []
    return [QUANTIZATION_MAP] * min(2, len(rule.states))


def managed_states(rule: OptimizerRow, parameter: Parameter) -> int:
    """Bytes of states in managed memory: the driver may move them to the host under pressure."""
    if rule.place != "managed" or not parameter.requires_grad or parameter.numel < PAGED_MINIMUM:
        return 0
    return int(sum(parameter.numel * STATE_BYTES.get(state.dtype, 4.0) for state in rule.states))


def temporaries(rule: OptimizerRow, groups: Sequence[Sequence[Parameter]]) -> list[tuple[int, int]]:
    """(bytes, count) of what the step holds at its highest point, beyond weights, gradients and states.

    `groups` are the parameter groups of the optimizer. foreach kernels handle one group and dtype at a time.
    """
    if rule.step_temp_scope == "largest":
        largest = max((p for group in groups for p in group), key=lambda p: p.numel, default=None)
        size = 0 if largest is None else int(largest.numel * _temporary_bytes(rule, largest))
        return [(size, 1)] if size else []
    best: list[tuple[int, int]] = []
    if rule.step_temp_scope == "group":
        for group in groups:
            for dtype in {p.dtype for p in group}:
                sizes = _copies(rule, [p for p in group if p.dtype == dtype])
                if _total(sizes) > _total(best):
                    best = sizes
    return best


def copies(rule: OptimizerRow, parameter: Parameter) -> int:
    """Copies of every parameter that a foreach step holds at once."""
    return round(_temporary_bytes(rule, parameter) / DTYPE_BYTES[parameter.dtype])


def temporaries_of(rule: OptimizerRow, parameter: Parameter) -> list[int]:
    """Bytes of each tensor that the update of one parameter holds, where parameters are updated one by one."""
    if rule.step_temp_scope != "largest":
        return []
    width = 4 if _temporary_bytes(rule, parameter) % 4 == 0 else DTYPE_BYTES[parameter.dtype]
    return [parameter.numel * width] * round(_temporary_bytes(rule, parameter) / width)


def _copies(rule: OptimizerRow, parameters: Sequence[Parameter]) -> list[tuple[int, int]]:
    """Whole copies of the parameters, as many as the step's bytes per element make."""
    return [(p.nbytes, p.multiplicity * copies(rule, p)) for p in parameters if copies(rule, p)]


def _temporary_bytes(rule: OptimizerRow, parameter: Parameter) -> float:
    return rule.step_temp_fp32 if DTYPE_BYTES[parameter.dtype] == 4 else rule.step_temp_low


def _total(sizes: Sequence[tuple[int, int]]) -> int:
    return sum(rounded(size) * count for size, count in sizes)

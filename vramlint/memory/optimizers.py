"""Optimizers: the states that they keep and what a step holds while it runs.

A state's dtype word: `param` (the parameter's dtype), `fp32`, `u8` / `u4` (quantized, with a scale per block).
Sources are the rows of the catalog (optimizers), which name package, version and line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vramlint.job import DTYPE_BYTES, Optimizer
from vramlint.memory.recorder import rounded
from vramlint.memory.tensor import Parameter

PAGED_MINIMUM = 100_000
"""Smaller states are not paged (bitsandbytes 0.50 optim/optimizer.py, get_state_buffer)."""
QUANTIZATION_MAPS = (1024, 1024)
"""The two 256-entry float32 maps of an 8-bit optimizer."""
BLOCK_SCALES = 4
"""Bytes of one block's scale."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one optimizer allocates."""

    states: tuple[str, ...] = ()
    step_tensor: bool = False
    """One 4-byte device tensor per parameter counts the steps (fused and capturable torch optimizers)."""
    temporaries: str = "none"
    """none; group:<n> (n copies of a whole parameter group and dtype, foreach); tensor:<n> (n copies of the
    largest parameter, previous one's `denom` still alive); widened:<n> (n float32 copies, more for 16-bit)."""
    block: int = 0
    minimum: int = 0
    """Parameters with fewer elements keep float32 states."""
    paged: bool = False
    factored: bool = False


ADAM = ("param", "param")
RULES = {
    "adamw_torch": Rule(ADAM, temporaries="group:1"),
    "adamw_torch_fused": Rule(ADAM, step_tensor=True),
    "adamw_torch_forloop": Rule(ADAM, temporaries="tensor:2"),
    "adamw_hf": Rule(ADAM, temporaries="tensor:1"),
    "sgd": Rule(),
    "sgd_momentum": Rule(("param",)),
    "adafactor": Rule(factored=True, temporaries="widened:2"),
    "adamw_bnb_8bit": Rule(("u8", "u8"), block=256, minimum=4096),
    "adamw_bnb_32bit": Rule(("fp32", "fp32")),
    "paged_adamw_8bit": Rule(("u8", "u8"), block=256, minimum=4096, paged=True),
    "paged_adamw_32bit": Rule(("fp32", "fp32"), paged=True),
    "lion_32bit": Rule(("fp32",)),
    "lion_8bit": Rule(("u8",), block=256, minimum=4096),
    "paged_lion_32bit": Rule(("fp32",), paged=True),
    "paged_lion_8bit": Rule(("u8",), block=256, minimum=4096, paged=True),
    "rmsprop": Rule(("param",), temporaries="group:1"),
    "adagrad": Rule(("param",), temporaries="group:2"),
}
"""The optimizers that the simulator follows tensor by tensor."""
SYNONYMS = {
    "adam": "adamw_torch",
    "adamw": "adamw_torch",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "lion": "lion_32bit",
    "paged_lion": "paged_lion_32bit",
    "deepspeed_cpu_adam": "adamw_torch_fused",
    "fused_adam": "adamw_torch_fused",
}


def rule_for(optimizer: Optimizer) -> Rule | None:
    """The rule of an optimizer, None when its allocations are not known."""
    name = SYNONYMS.get(optimizer.name, optimizer.name)
    if name == "sgd" and optimizer.momentum:
        name = "sgd_momentum"
    return RULES.get(name)


def states(rule: Rule, parameter: Parameter) -> list[int]:
    """Unrounded bytes of every device tensor that the optimizer keeps for one parameter."""
    elements = parameter.numel
    if rule.factored:
        return _factored(parameter)
    sizes = [4] if rule.step_tensor else []
    for word in rule.states:
        sizes += _state(rule, word, elements, DTYPE_BYTES[parameter.dtype])
    return sizes


def _state(rule: Rule, word: str, elements: int, width: int) -> list[int]:
    if word == "param":
        return [elements * width]
    if word == "fp32" or elements < rule.minimum:
        return [] if rule.paged and elements >= PAGED_MINIMUM else [elements * 4]
    scales = -(-elements // rule.block) * BLOCK_SCALES
    return [scales] if rule.paged and elements >= PAGED_MINIMUM else [elements, scales]


def _factored(parameter: Parameter) -> list[int]:
    """HF Adafactor: row and column sums per matrix, a full vector otherwise, and the RMS scalar on the host."""
    shape = parameter.shape
    if len(shape) < 2:
        return [parameter.numel * 4, 4]
    rows = parameter.numel // shape[-1]
    columns = parameter.numel // shape[-2]
    return [rows * 4, columns * 4, 4]


def shared_states(rule: Rule, parameters: Sequence[Parameter]) -> list[int]:
    """Bytes of tensors that all states share: the quantization maps of an 8-bit optimizer."""
    quantized = rule.block and any(p.numel >= rule.minimum for p in parameters)
    return list(QUANTIZATION_MAPS[: len(rule.states)]) if quantized else []


def managed_states(rule: Rule, parameter: Parameter) -> int:
    """Bytes of states in managed memory: the driver may move them to the host under pressure."""
    if not rule.paged or not parameter.requires_grad or parameter.numel < PAGED_MINIMUM:
        return 0
    return sum(parameter.numel * (4 if word == "fp32" else 1) for word in rule.states)


def temporaries(rule: Rule, groups: Sequence[Sequence[Parameter]]) -> list[tuple[int, int]]:
    """(bytes, count) of what the step holds at its highest point, beyond weights, gradients and states.

    `groups` are the parameter groups of the optimizer. foreach kernels handle one group and dtype at a time.
    """
    kind, _, number = rule.temporaries.partition(":")
    copies = int(number) if number else 0
    if kind == "group":
        best: list[tuple[int, int]] = []
        for group in groups:
            for dtype in {parameter.dtype for parameter in group}:
                same = [parameter for parameter in group if parameter.dtype == dtype]
                sizes = [(parameter.nbytes, parameter.multiplicity * copies) for parameter in same]
                if _total(sizes) > _total(best):
                    best = sizes
        return best
    largest = max((parameter for group in groups for parameter in group), key=lambda p: p.numel, default=None)
    if largest is None or not copies:
        return []
    if kind == "tensor":
        return [(largest.nbytes, copies)]
    return [(largest.numel * 4, copies if largest.dtype == "float32" else 2 * copies)]


def _total(sizes: Sequence[tuple[int, int]]) -> int:
    return sum(rounded(size) * count for size, count in sizes)

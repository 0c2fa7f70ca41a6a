"""Adam-mini (adam_mini 1.1.1 adam_mini.py): one second moment for each head, neuron or tensor, by parameters' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter, Shape
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings, Update

ADAM = ("bias",)
"""Parts of the names of parameters with a whole second moment."""
BY_HEAD = ("k_proj", "q_proj", "wq", "wk", "query", "key")
BY_ROW = (
    *("embed", "embd", "wte", "lm_head", "output", "final_layer", "v_proj", "wv", "value"),
    *("feed_forward", "linear", "mlp", "o_proj", "wo", "attn.proj"),
)


class AdamMini(Update):
    """Every parameter is a group of its own, in the model's order."""

    dense: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.note = "Adam-mini's second moments of queries and keys, one for each head, are counted as one"

    def states(self, parameter: Parameter) -> list[int]:
        """The first moment and the means of squares."""
        width = DTYPE_BYTES[parameter.dtype]
        if _has(parameter, ADAM):
            return [parameter.nbytes] * 2
        rows = parameter.shape[0] if _by_row(parameter) else 1
        return [parameter.nbytes, rows * width]

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """Adam_mini.step."""
        denominator = size = update = None
        for parameter in memory.each_of(group.parameters for group in groups):
            self.make_one(memory, parameter)
            if _has(parameter, ADAM):
                denominator = memory.like(memory.like(parameter))
                continue
            shape: Shape = (parameter.shape[0], 1) if _by_row(parameter) else ()
            mean = memory.like(memory.like(parameter).as_shape(shape))
            denominator = memory.like(memory.empty(shape, parameter.dtype))
            size = memory.like(memory.empty(shape, parameter.dtype))
            update = memory.like(parameter, size)
            negated = memory.like(update)
            del negated, mean
        del denominator, size, update


def _has(parameter: Parameter, parts: Sequence[str]) -> bool:
    return any(part in parameter.name.lower() for part in parts)


def _by_row(parameter: Parameter) -> bool:
    return len(parameter.shape) > 1 and not _has(parameter, BY_HEAD) and _has(parameter, BY_ROW)

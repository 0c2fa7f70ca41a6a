"""AdamW and Lion as libraries write them without foreach: one parameter after the other."""

from __future__ import annotations

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings, Update


class TransformersAdamW(Update):
    """transformers' own AdamW, gone since 4.49 (4.36 optimization.py)."""

    def states(self, parameter: Parameter) -> list[int]:
        """exp_avg and exp_avg_sq."""
        return [parameter.nbytes] * 2

    def step(self, memory: Memory, group: Group) -> None:
        """AdamW.step."""
        denominator = None
        for parameter in memory.each(group.parameters):
            self.make_one(memory, parameter)
            denominator = memory.like(parameter)
        del denominator


class Lion(Update):
    """lion_pytorch."""

    def states(self, parameter: Parameter) -> list[int]:
        """exp_avg."""
        return [parameter.nbytes]

    def step(self, memory: Memory, group: Group) -> None:
        """update_fn: a copy of the average, and its sum with the gradient."""
        for parameter in memory.each(group.parameters):
            self.make_one(memory, parameter)
            update = memory.like(memory.like(parameter))
            del update


class AnyPrecisionAdamW(Update):
    """AnyPrecisionAdamW of torchdistx: dtypes of its own for each state, Kahan's compensation if asked for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.momentum = settings.text("momentum_dtype", "float32")
        self.variance = settings.text("variance_dtype", "float32")
        self.kahan = settings.flag("use_kahan_summation", default=False)
        self.compensation = settings.text("compensation_buffer_dtype", "bfloat16")

    def states(self, parameter: Parameter) -> list[int]:
        """exp_avg, exp_avg_sq and the compensation."""
        dtypes = [self.momentum, self.variance, *([self.compensation] if self.kahan else [])]
        return [parameter.numel * DTYPE_BYTES.get(dtype, 4) for dtype in dtypes]

    def step(self, memory: Memory, group: Group) -> None:
        """AnyPrecisionAdamW.step."""
        variance: Tensor | None = None
        buffer = None
        for parameter in memory.each(group.parameters):
            self.make_one(memory, parameter)
            variance = memory.like(memory.like(parameter, dtype=self.variance))
            if self.kahan:
                buffer = memory.like(parameter)
        del variance, buffer

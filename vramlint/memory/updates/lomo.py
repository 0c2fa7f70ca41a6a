"""LOMO and AdaLomo (lomo_optim 0.1.1): a parameter is updated in backward as soon as the next gradient arrives.

A hook on each parameter's gradient updates whatever has one already, which is the parameter before, so two gradients
are alive at most. The Trainer calls `fused_backward`, which updates the last one.
"""

from __future__ import annotations

from typing import ClassVar

from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.updates.factored import WIDE, clip, factored_bytes, mean_square, second_moment, square
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Update


class Lomo(Update):
    """Plain SGD in float32."""

    in_backward = True
    delayed: ClassVar[bool] = True

    def update(self, memory: Memory, parameter: Parameter) -> None:
        """fuse_update's `func` for one parameter."""
        gradient = self.gradient(memory, parameter)
        weights = memory.to(parameter, WIDE)
        del gradient, weights

    def gradient(self, memory: Memory, parameter: Parameter) -> Tensor | None:
        """`p.grad.to(torch.float32)`, then `p.grad = None`."""
        gradient = parameter.grad
        if gradient is not None:
            gradient = memory.to(gradient, WIDE)
        parameter.grad = None
        return gradient


class AdaLomo(Lomo):
    """Adafactor's sums, made with the optimizer."""

    dense: ClassVar[bool] = False

    lazy = False

    def states(self, parameter: Parameter) -> list[int]:
        """exp_avg_sq_row and exp_avg_sq_col of a matrix, exp_avg_sq of a vector, in float32."""
        return factored_bytes(parameter.shape)

    def update(self, memory: Memory, parameter: Parameter) -> None:
        """fuse_update's `func` for one parameter."""
        gradient = self.gradient(memory, parameter)
        if gradient is None:
            return
        update = square(memory, gradient)
        update = second_moment(memory, update)
        clip(memory)
        weights = memory.to(parameter, WIDE)
        mean_square(memory)
        rate = memory.scalar()
        del gradient, update, weights, rate

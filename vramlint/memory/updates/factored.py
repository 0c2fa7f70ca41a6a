"""Adafactor, of transformers (5.23 optimization.py) and of torch (2.13 optim/_adafactor.py): second moments as sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.updates.memory import Memory, by_dtype
from vramlint.memory.updates.native import Native
from vramlint.memory.updates.update import Group, Settings, Update

WIDE = "float32"


def rows(shape: Shape) -> Shape:
    """A matrix without its last dimension."""
    return shape[:-1]


def columns(shape: Shape) -> Shape:
    """A matrix without its last dimension but one."""
    return (*shape[:-2], shape[-1])


class Adafactor(Update):
    """transformers.Adafactor: float32 throughout, one parameter after the other."""

    dense: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.first_moment = settings.number("beta1", 0) != 0

    def states(self, parameter: Parameter) -> list[int]:
        """exp_avg if asked for, row and column sums of a matrix or all of a vector, and the root mean square."""
        moment = [4 * parameter.numel] if self.first_moment else []
        return [*moment, *factored_bytes(parameter.shape), 4]

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """Adafactor.step."""
        gradient = weights = update = None
        for parameter in memory.each_of(group.parameters for group in groups):
            gradient = None
            gradient = memory.to(parameter, WIDE)
            self.make_one(memory, parameter)
            weights = None
            weights = memory.to(parameter, WIDE)
            mean_square(memory)
            update = square(memory, gradient)
            update = second_moment(memory, update)
            clip(memory)
            negated = memory.like(update)
            del negated
        del gradient, weights, update


def factored_bytes(shape: Shape) -> list[int]:
    """Bytes of a matrix's row and column sums in float32, of all values of a vector."""
    if len(shape) < 2:
        return [4 * Tensor(shape, WIDE, None).numel]
    return [4 * Tensor(part(shape), WIDE, None).numel for part in (rows, columns)]


def mean_square(memory: Memory) -> None:
    """`tensor.norm(2) / n ** 0.5`."""
    norm = memory.scalar()
    root = memory.scalar()
    del norm, root


def square(memory: Memory, gradient: Tensor) -> Tensor:
    """`gradient ** 2 + eps`."""
    return memory.like(memory.like(gradient))


def second_moment(memory: Memory, update: Tensor) -> Tensor:
    """The sums take in squares; what the gradient is multiplied with comes out."""
    shape = update.shape
    if len(shape) < 2:
        return memory.like(update)
    for part in (rows, columns):
        mean = memory.summed(shape, part(shape), WIDE)
        del mean
    mean = memory.empty((*shape[:-2], 1, 1), WIDE)
    row = memory.empty(rows(shape), WIDE)
    del mean
    column = memory.empty(columns(shape), WIDE)
    product = memory.like(update, row, column)
    del row, column
    return product


def clip(memory: Memory) -> None:
    """`update.div_((rms(update) / threshold).clamp_(min=1))`."""
    norm = memory.scalar()
    root = memory.scalar()
    del norm
    ratio = memory.scalar()
    del root, ratio


class TorchAdafactor(Native):
    """torch.optim.Adafactor, in the parameters' dtype; foreach, which takes a copy of everything, only if asked for."""

    dense: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.foreach = settings.flag("foreach", default=False)

    def states(self, parameter: Parameter) -> list[int]:
        """row_var and col_var of a matrix, the variance of a vector."""
        width = DTYPE_BYTES[parameter.dtype]
        return [size * width // 4 for size in factored_bytes(parameter.shape)]

    def one_by_one(self, memory: Memory, group: Group) -> None:
        """_single_tensor_adafactor."""
        row = column = update = squared = None
        for parameter in memory.each(group.parameters):
            norm = memory.scalar(parameter.dtype)
            del norm
            if len(parameter.shape) > 1:
                row = memory.summed(parameter.shape, rows(parameter.shape), parameter.dtype)
                column = memory.summed(parameter.shape, columns(parameter.shape), parameter.dtype)
            else:
                squared = memory.like(parameter)
            update = memory.like(parameter)
            norm = memory.scalar(parameter.dtype)
            del norm
        del row, column, update, squared

    def together(self, memory: Memory, group: Group) -> None:
        """_multi_tensor_adafactor: matrices and vectors apart."""
        for members in by_dtype(group.parameters):
            for kind in (self._matrices, self._vectors):
                kind(memory, members)

    def _matrices(self, memory: Memory, members: Sequence[Parameter]) -> None:
        matrices = [parameter for parameter in members if len(parameter.shape) > 1]
        if not matrices:
            return
        for part in (rows, columns):
            means = memory.list_of(matrices, part)
            del means
        updates = memory.copies(matrices)
        means = memory.list_of(matrices, lambda _: ())
        del means, updates

    def _vectors(self, memory: Memory, members: Sequence[Parameter]) -> None:
        vectors = [parameter for parameter in members if len(parameter.shape) < 2]
        if vectors:
            squares = memory.copies(vectors)
            del squares
            updates = memory.copies(vectors)
            del updates

"""GaLore (galore_torch 1.0: adamw.py, adamw8bit.py, adafactor.py, galore_projector.py).

Every `update_proj_gap` steps, and in the first, the gradient of each target is decomposed. Such a step is what the
estimate shows: it holds the most. In float32 the projection stays a view of the whole U or V^T, not of its first
`rank` vectors alone; in 16 bit it is a copy. The workspace of cuSOLVER's gesvdj is not known and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vramlint.job import DTYPE_BYTES
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.updates import bitsandbytes
from vramlint.memory.updates.factored import (
    WIDE,
    Adafactor,
    clip,
    mean_square,
    second_moment,
    square,
)
from vramlint.memory.updates.low_rank import LowRank, Projection
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings

NOTE = "the workspace of cuSOLVER's singular value decomposition comes on top while GaLore refreshes its projections"


SHIFTED_FROM = (0, 50)
"""bitsandbytes without percentile_clipping: the 100 that galore_torch passes for it by position becomes `max_unorm`."""


class GaLoreAdamW(LowRank):
    """Adam's moments in the gradient's dtype; of targets at low rank."""

    caveat: ClassVar[str] = NOTE

    def moments(self, parameter: Parameter, shape: Shape) -> list[int]:
        """exp_avg and exp_avg_sq."""
        return [Tensor(shape, parameter.dtype, None).nbytes] * 2

    def kept(self, parameter: Parameter, projection: Projection) -> list[int]:
        """In the gradient's dtype."""
        return projection_bytes(parameter.shape, parameter.dtype, projection)

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """adamw.py."""
        gradient = denominator = update = None
        for parameter in memory.each_of(group.parameters for group in groups):
            gradient = None
            target = self.projects(parameter)
            if target:
                gradient = project(memory, parameter, self.projection(parameter))
            self.make_one(memory, parameter)
            low = gradient or parameter
            denominator = memory.like(low)
            update = memory.like(low, denominator)
            del low
            if target:
                update = back(memory, parameter, update)
        del gradient, denominator, update


class GaLoreAdafactor(LowRank):
    """Adafactor in float32, so that the projections are views whatever the weights' dtype is."""

    caveat: ClassVar[str] = NOTE

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.inner = Adafactor(settings)

    def moments(self, parameter: Parameter, shape: Shape) -> list[int]:
        """What Adafactor keeps."""
        return self.inner.states(_shaped(parameter, shape))

    def kept(self, parameter: Parameter, projection: Projection) -> list[int]:
        """Of a gradient in float32."""
        return projection_bytes(parameter.shape, WIDE, projection)

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """adafactor.py."""
        gradient = weights = update = None
        for parameter in memory.each_of(group.parameters for group in groups):
            gradient = None
            gradient = memory.to(parameter, WIDE)
            target = self.projects(parameter)
            if target:
                gradient = project(memory, gradient, self.projection(parameter))
            self.make_one(memory, parameter)
            weights = None
            weights = memory.to(parameter, WIDE)
            mean_square(memory)
            update = square(memory, gradient)
            update = second_moment(memory, update)
            clip(memory)
            if target:
                update = back(memory, weights, update)
            negated = memory.like(update)
            del negated
        del gradient, weights, update


class GaLoreAdamW8bit(LowRank):
    """bitsandbytes' kernels on a weight that is swapped for the projected gradient while they run."""

    caveat: ClassVar[str] = NOTE
    swaps_gradients: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.kernel = bitsandbytes.TwoStates(settings)
        self.kernel.bits, self.kernel.wide_embeddings = 8, False
        self.kernel.norms = settings.libraries.bitsandbytes >= SHIFTED_FROM

    def moments(self, parameter: Parameter, shape: Shape) -> list[int]:
        """The kernels' states; one optimizer for each parameter has maps of its own."""
        seen = _shaped(parameter, shape)
        maps = self.kernel.shared([seen]) if self.settings.layerwise else []
        return [*maps, *self.kernel.states(seen)]

    def kept(self, parameter: Parameter, projection: Projection) -> list[int]:
        """In the gradient's dtype."""
        return projection_bytes(parameter.shape, parameter.dtype, projection)

    def shared(self, parameters: Sequence[Parameter]) -> list[int]:
        """The maps of 8-bit values."""
        if self.settings.layerwise:
            return []
        shapes = (self.projection(p).shape if self.projects(p) else p.shape for p in parameters)
        return self.kernel.shared([_shaped(p, shape) for p, shape in zip(parameters, shapes, strict=True)])

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """adamw8bit.py. A target's gradient is replaced by the projected one, until gradients are set to None."""
        if memory.first:
            for size in self.shared([parameter for group in groups for parameter in group.parameters]):
                memory.state(size)
        for parameter in memory.each_of(group.parameters for group in groups):
            if not self.projects(parameter):
                self.make_one(memory, parameter)
                self._norm(memory, parameter, parameter)
                continue
            gradient = project(memory, parameter, self.projection(parameter))
            saved = memory.like(parameter)
            swapped = memory.like(gradient)
            del saved  # in its place the original weight goes, which is as large
            parameter.grad = gradient
            del gradient
            self.make_one(memory, parameter)
            self._norm(memory, _shaped(parameter, swapped.shape), swapped)
            restored = back(memory, parameter, swapped)
            del swapped, restored

    def _norm(self, memory: Memory, kept: Parameter, weights: Tensor) -> None:
        """The norm of the weights that a kernel with float32 states sees."""
        if self.kernel.norms and not self.kernel.narrow(kept):
            bitsandbytes.weights_norm(memory, weights)


def _shaped(parameter: Parameter, shape: Shape) -> Parameter:
    """What an optimizer sees whose gradient has been projected to a shape."""
    return Parameter("", shape, parameter.dtype, trainable=True, multiplicity=1)


def projection_bytes(shape: Shape, dtype: str, projection: Projection) -> list[int]:
    """What stays of U, of V^T or of both."""
    outputs, inputs = shape
    columns = min(shape) if dtype == WIDE else projection.rank
    width = DTYPE_BYTES[dtype]
    left, right = outputs * columns * width, columns * inputs * width
    return {"left": [left], "right": [right], "full": [left, right]}[projection.side]


def project(memory: Memory, gradient: Tensor, projection: Projection) -> Tensor:
    """GaLoreProjector.project: a new projection, then the projected gradient."""
    _decompose(memory, gradient, projection)
    if projection.side == "full":
        outer = memory.empty((projection.rank, gradient.shape[1]), gradient.dtype)
        low = memory.empty(projection.shape, gradient.dtype)
        del outer
        return low
    return memory.empty(projection.shape, gradient.dtype)


def _decompose(memory: Memory, gradient: Tensor, projection: Projection) -> None:
    """get_orthogonal_matrix.

    torch copies the matrix for cuSOLVER (torch 2.13 native/cuda/linalg/BatchLinearAlgebraLib.cpp, svd_cusolver).
    """
    outputs, inputs = gradient.shape
    rank, side, smaller = projection.rank, projection.side, min(gradient.shape)
    wide = gradient.dtype == WIDE
    matrix = memory.to(gradient, WIDE)

    def vectors(kind: str, shape: Shape) -> Tensor | None:
        """U or V^T, of which float32 projections are views."""
        return memory.renewed(shape, WIDE) if wide and side in (kind, "full") else memory.empty(shape, WIDE)

    u = vectors("left", (outputs, smaller))
    s = memory.empty((smaller,), WIDE)
    v = vectors("right", (smaller, inputs))
    copy = memory.like(matrix)
    del copy
    if side != "full":
        scales = memory.empty((rank, rank), WIDE)
        product = memory.empty((outputs, rank) if side == "right" else (rank, inputs), WIDE)
        del scales, product
    if not wide:
        narrow = [
            memory.renewed(shape, gradient.dtype)
            for kind, shape in (("left", (outputs, rank)), ("right", (rank, inputs)))
            if side in (kind, "full")
        ]
        del narrow
    del u, s, v, matrix


def back(memory: Memory, full: Tensor, low: Tensor) -> Tensor:
    """GaLoreProjector.project_back: the product, and a scaled copy."""
    product = memory.like(full, low, dtype=low.dtype)
    return memory.like(product)

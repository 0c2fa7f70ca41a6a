"""Optimizers of bitsandbytes (0.50.2 optim/optimizer.py, optim/ademamix.py): fused kernels without temporaries.

States are float32, or 8 bit by blocks with one float32 scale each; `paged` ones of large parameters are in managed
memory, outside of the caching allocator. The maps of the 8-bit values are shared by all parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.updates.memory import Memory
from vramlint.memory.updates.update import Group, Settings, Update

BLOCK, LARGE_BLOCK, SMALL_BLOCKS_FROM = 256, 2048, (0, 44)
"""Values of one scale, now and before that version."""
SCALE = 4
MAP = 1024
"""The 256 float32 values of one kind of 8-bit state."""
SMALLEST = 4096
"""`min_8bit_size`: parameters with fewer elements have float32 states."""
PAGED_FROM = 100_000
"""Elements of the smallest parameter whose states are paged (get_state_buffer)."""
NARROW = 8


class OneState(Update):
    """Lion, RMSprop, Adagrad, LARS and SGD with momentum."""

    tensors: ClassVar[tuple[int, ...]] = (1,)
    """State tensors as multiples of the parameter."""
    norms: bool = False
    """Whether updates are clipped by their norm (`max_unorm`), which has a tensor."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.block = BLOCK if settings.libraries.bitsandbytes >= SMALL_BLOCKS_FROM else LARGE_BLOCK
        self.smallest = settings.number("min_8bit_size", SMALLEST)
        self.bits = int(settings.number("optim_bits", 32))
        self.paged = settings.flag("is_paged", default=False)
        self.wide_embeddings = settings.optimizer.wide_embeddings
        """The Trainer's override for embeddings (transformers 5.23 trainer.py)."""

    def narrow(self, parameter: Parameter) -> bool:
        """Whether a parameter's states are of 8 bit."""
        wide = self.wide_embeddings and parameter.embedding
        return self.bits == NARROW and parameter.numel >= self.smallest and not wide

    def states(self, parameter: Parameter) -> list[int]:
        """What is on the device: states that are not paged, and scales."""
        width = 1 if self.narrow(parameter) else 4
        states = [] if self._pages(parameter) else [width * times * parameter.numel for times in self.tensors]
        return [*states, *self._scales(parameter), *([4] if self.norms else [])]

    def _scales(self, parameter: Parameter) -> list[int]:
        if not self.narrow(parameter):
            return []
        blocks = -(-parameter.numel // self.block)
        return [times * blocks * SCALE for times in self.tensors]

    def _pages(self, parameter: Parameter) -> bool:
        return self.paged and parameter.numel >= PAGED_FROM

    def shared(self, parameters: Sequence[Parameter]) -> list[int]:
        """The maps: a signed one, and an unsigned one for second states."""
        return [MAP] * len(self.tensors) if any(self.narrow(parameter) for parameter in parameters) else []

    def managed(self, parameter: Parameter) -> int:
        """Paged states."""
        width = 1 if self.narrow(parameter) else 4
        return width * sum(self.tensors) * parameter.numel if self._pages(parameter) else 0

    def run(self, memory: Memory, groups: Sequence[Group]) -> None:
        """The maps come with the first state that needs them."""
        if memory.first:
            for size in self.shared([parameter for group in groups for parameter in group.parameters]):
                memory.state(size)
        super().run(memory, groups)

    def step(self, memory: Memory, group: Group) -> None:
        """Each parameter's states before its update, which alone with float32 states needs the weights' norm."""
        for parameter in memory.each(group.parameters):
            self.make_one(memory, parameter)
            if self.norms and not self.narrow(parameter):
                weights_norm(memory, parameter)


def weights_norm(memory: Memory, parameter: Tensor) -> None:
    """`torch.norm(p.float())` (functional.py, optimizer_update_32bit)."""
    weights = memory.to(parameter, "float32")
    norm = memory.scalar()
    del weights, norm


class TwoStates(OneState):
    """Adam and AdamW."""

    tensors: ClassVar[tuple[int, ...]] = (1, 1)


class AdEMAMix(OneState):
    """The fast and the slow average are one tensor."""

    tensors: ClassVar[tuple[int, ...]] = (2, 1)


class Lamb(TwoStates):
    """LAMB clips by norms."""

    norms = True


class Lars(OneState):
    """LARS clips by norms."""

    norms = True

"""ZeRO++'s quantized communication (deepspeed 0.19.8).

Weights: CUDAQuantizer of runtime/zero/partition_parameters.py, in 8 bits with a float32 scale for each group.
Gradients: all_to_all_quant_reduce of runtime/comm/coalesced_collectives.py, in 4 bits, first within a machine, then
between them. What the kernels return: csrc/quantization/pt_binding.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from vramlint.memory.zero_partition import Piece

HALF = 2
"""Bytes of an element in float16, which the kernels read and write whatever dtype the weights have."""
SCALE = 4
"""Bytes of a scale."""
_WIDE_GROUP = 8000
"""CUDAQuantizer.target_group_size"""
_ALIGNMENT = 8


@lru_cache(maxsize=1024)
def groups_of(elements: int) -> int:
    """Groups that have a scale of their own (CUDAQuantizer.quantize)."""
    groups = -(-elements // _WIDE_GROUP)
    while groups < elements and elements % (_ALIGNMENT * groups):
        groups += 1
    while elements % (2 * _ALIGNMENT * groups) == 0 and elements > _WIDE_GROUP * groups:
        groups *= 2
    return groups


def stored_bytes(elements: int) -> int:
    """Of weights in 8 bits, scales included."""
    return elements + SCALE * groups_of(elements) if elements else 0


class QuantizedReduction:
    """What qgZ holds at once while a bucket of gradients is reduced. Sizes are bytes."""

    def __init__(self, world: int, machines: int, width: int) -> None:
        self.world, self.machines, self.width = world, machines, width
        self.local = max(1, world // machines)
        self._held: dict[str, int] = {}
        self._highest = 0

    def copies(self, bucket: Sequence[Piece], _fill: int, _capacity: int) -> int:
        """The most at once, as elements of `width` bytes; gradients go one by one, in the model's order."""
        self._held, self._highest = {}, 0
        for number, piece in enumerate(reversed(bucket)):
            elements, shape = piece.parameter.numel, piece.parameter.shape
            if len(shape) > 1 and elements % (2 * self.world) == 0:
                self._reduce(number, elements, max(shape[0], shape[1], self.world))
            elif elements % self.world:
                self._hold(f"partition {number}", self.width * -(-elements // self.world) * self.world)
        return -(-self._highest // self.width)

    def _reduce(self, number: int, elements: int, groups: int) -> None:
        """The names of the function, which keep what they stood for until they are bound again."""
        packed, scales = elements // 2, SCALE * groups
        for name in ("intra", "local"):
            self._hold(name, packed + scales)
        for name in ("global in", "global out"):
            self._hold(name, packed // self.local + scales // self.local)
        self._hold("final", HALF * elements // self.local)
        share = HALF * elements // self.world
        self._hold("sum", 2 * share)
        self._hold("sum", 0)
        self._hold(f"partition {number}", share)

    def _hold(self, name: str, size: int) -> None:
        """A name is bound to a new tensor, beside the one that it stood for."""
        self._highest = max(self._highest, sum(self._held.values()) + size)
        self._held[name] = size

"""In which form ZeRO 3's parameters travel (deepspeed 0.19.8 runtime/zero/partition_parameters.py).

all_gather_coalesced and AllGatherCoalescedHandle; of MiCS runtime/zero/mics.py, until 0.19.6.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

from msgspec import Struct

from vramlint.job import Zero
from vramlint.memory.tensor import Parameter
from vramlint.memory.zero_partition import in_order
from vramlint.memory.zero_quantizer import HALF, SCALE, groups_of


class Handle(Struct):
    """A gather that is under way: what of it nobody has waited for. Sizes are bytes."""

    size: int
    """Of what it holds while it is under way."""
    waiting: set[int]
    whole: int | None = None
    """Of the float16 values of 8-bit ones; None: what arrives is what is meant."""
    copied: bool = False


class Wire(Struct, frozen=True):
    """In which form parameters travel."""

    world: int
    width: int
    """Bytes of an element."""
    half: bool = True
    """Elements are float16, which 8-bit kernels take as they are."""
    packed: Collection[int] = frozenset()
    """Parameters that are gathered in 8 bits."""
    stored: Collection[int] = frozenset()
    """Those of them that lie there in 8 bits, too."""
    partitioned: Collection[int] = frozenset()
    """Parameters with a secondary partition, which is made by their release."""
    lasting: Collection[int] = frozenset()
    """Those of which it was made once and for all."""
    second: int = 1
    """Ranks that share it."""
    apart: bool = False
    """Each parameter is gathered into a buffer of its own, which it then is (MiCS, with NCCL's coalescing)."""

    @property
    def key(self) -> Hashable:
        """What tells it from others."""
        collections = (self.packed, self.stored, self.partitioned, self.lasting)
        return self.world, self.width, self.half, *map(frozenset, collections), self.second, self.apart

    def sent(self, parameters: Sequence[int], sizes: Sequence[int]) -> tuple[Handle, int]:
        """The gather of some parameters, and the bytes that it holds at the most while it is sent off."""
        parts = sum(-(-sizes[p] // self.world) for p in parameters)
        flat = parts * self.world
        waiting = set(parameters)
        if parameters[0] not in self.packed:
            size = self.width * flat
            return Handle(size, waiting, copied=len(parameters) == 1), size
        groups = SCALE * groups_of(parts)
        size = flat + groups * self.world
        if parameters[0] in self.stored:
            joined = parts + groups if len(parameters) > 1 else 0
            return Handle(size, waiting, HALF * flat), size + joined
        joined = self.width * parts if len(parameters) > 1 else 0
        read = 0 if self.half else HALF * parts
        return Handle(size, waiting, HALF * flat), size + joined + read + parts


def wire_of(parameters: Sequence[Parameter], zero: Zero, world: int, width: int, *, half: bool) -> Wire:
    """How ZeRO++ changes the form in which parameters travel."""
    numbered = list(enumerate(in_order(parameters)))
    frozen = frozenset(n for n, p in numbered if not p.requires_grad)
    stored = frozen if zero.quantized_frozen_weights else frozenset()
    second = min(zero.hpz_partition_size, world)
    return Wire(
        world,
        width,
        half=half,
        packed=frozenset(n for n, _ in numbered) if zero.quantized_weights else stored,
        stored=stored,
        partitioned=frozenset(n for n, _ in numbered) if second > 1 else frozenset(),
        lasting=frozen if second > 1 else frozenset(),
        second=second,
        apart=zero.mics_shard_size is not None,
    )


def aligned(elements: int, world: int) -> int:
    """Elements with the padding by which all ranks have equal parts."""
    return -(-elements // world) * world

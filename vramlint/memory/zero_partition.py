"""What one rank of ZeRO 1 and 2 owns, and when its buckets of gradients are reduced.

Follows deepspeed 0.19.8 runtime/zero/stage_1_and_2.py: each parameter group is one flat buffer, aligned to twice the
ranks and cut into equal partitions (:440-560); gradients fill a bucket in the order in which they are complete, and
what does not fit any more sends the bucket off (reduce_independent_p_g_buckets_and_remove_grads). Where the bucket
holds slices of several partitions it is flattened into a copy (allreduce_bucket). Gradients of the parameters that a
partition touches, whole ones, are copied to one buffer for them all (copy_grads_in_partition).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from msgspec import Struct, field

from vramlint.memory.tensor import Parameter

ALIGNMENT = 2
"""Elements per rank to which a flat group is padded (nccl_start_alignment_factor)."""


class Piece(Struct, frozen=True):
    """One parameter of one layer, as a slice of its group's flat buffer."""

    parameter: Parameter
    begin: int = 0
    """Where it begins in the buffer."""
    partition: int = 0
    """Elements of a partition of its group."""
    slice: int = 0
    """Elements of it in the rank's own partition."""

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.begin + self.parameter.numel

    @property
    def first(self) -> int:
        """The first partition that it reaches into."""
        return self.begin // max(1, self.partition)

    @property
    def last(self) -> int:
        """The last one."""
        return (self.end - 1) // max(1, self.partition)

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """What it is cut into: a partition, the elements there, and how many such follow each other."""
        first, last = self.first, self.last
        if first == last:
            yield first, self.parameter.numel, 1
            return
        yield first, (first + 1) * self.partition - self.begin, 1
        if last > first + 1:
            yield first + 1, self.partition, last - first - 1
        yield last, self.end - last * self.partition, 1


class Partition(Struct, frozen=True):
    """One rank's part of the flat groups."""

    sizes: tuple[int, ...]
    """Elements of its partition of each group."""
    pieces: tuple[tuple[Piece, ...], ...]
    """All parameters of each group in the model's order."""
    rank: int

    @property
    def owned(self) -> int:
        """Elements of the parameters that its partitions touch."""
        return sum(piece.parameter.numel for group in self.pieces for piece in group if piece.slice)

    @property
    def largest_slice(self) -> int:
        """Elements of the largest part of one parameter in a partition."""
        return max((piece.slice for group in self.pieces for piece in group), default=0)


def partition_of(groups: Sequence[Sequence[Parameter]], world: int, rank: int | None) -> Partition:
    """The part of one rank: of `rank`, or of the one that touches the most."""
    sizes = tuple(_padded(sum(p.numel * p.multiplicity for p in group), world) // world for group in groups)
    if rank is None:
        rank = _heaviest(groups, sizes)
    pieces = tuple(tuple(_pieces(group, size, rank)) for group, size in zip(groups, sizes, strict=True))
    return Partition(sizes, pieces, rank)


def arrivals(parameters: Sequence[Parameter], pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces in the order in which backward completes their gradients: that of their first use, from the last.

    A parameter whose use nobody saw counts as used with the one before it in the model.
    """
    uses: list[tuple[int, Parameter]] = []
    for parameter in parameters:
        seen = uses[-1][0] if parameter.used is None and uses else parameter.used or 0
        uses.append((seen, parameter))
    waiting: dict[int, list[Piece]] = {}
    for piece in reversed(pieces):
        waiting.setdefault(id(piece.parameter), []).append(piece)
    ordered = in_order([parameter for _, parameter in sorted(uses, key=itemgetter(0))])
    return [waiting[id(p)].pop() for p in ordered if waiting.get(id(p))][::-1]


def _padded(elements: int, world: int) -> int:
    step = ALIGNMENT * world
    return -(-elements // step) * step


def in_order(parameters: Sequence[Parameter]) -> Iterator[Parameter]:
    """Every parameter of every layer, in the model's order."""
    for stretch, found in groupby(parameters, key=lambda p: (p.stretch, p.multiplicity)):
        members = list(found)
        for _ in range(stretch[1]):
            yield from members


def _pieces(group: Sequence[Parameter], size: int, rank: int) -> Iterator[Piece]:
    begin = 0
    for parameter in in_order(group):
        end = begin + parameter.numel
        own = min(end, (rank + 1) * size) - max(begin, rank * size)
        yield Piece(parameter, begin, size, max(0, own))
        begin = end


def _heaviest(groups: Sequence[Sequence[Parameter]], sizes: Sequence[int]) -> int:
    """The rank whose partitions touch the most elements."""
    touched: dict[int, int] = {0: 0}
    for group, size in zip(groups, sizes, strict=True):
        begin, step = 0, max(1, size)
        for parameter in in_order(group):
            numel = parameter.numel
            first, last = begin // step, (begin + numel - 1) // step
            for rank in (first,) if first == last else {first, last, (first + last) // 2}:
                touched[rank] = touched.get(rank, 0) + numel
            begin += numel
    return max(touched, key=lambda rank: touched[rank])


class Schedule(Struct):
    """When a bucket of so many elements is reduced while gradients arrive."""

    copies: dict[int, int] = field(default_factory=dict)
    """Elements that are copied when a parameter's gradient arrives and the bucket goes off, by id(parameter)."""
    claims: int | None = None
    """id of the parameter at whose arrival the buffer of the rank's own gradients is made; None: at the end."""
    rest: int = 0
    """Elements that are copied at the end."""
    largest: dict[int | None, int] = field(default_factory=dict)
    """Elements of the largest slice that is the rank's own, of what goes off with a parameter's gradient; under None
    of what does at the end."""


Copies = Callable[[Sequence[Piece], int, int], int]
"""Elements that are copied when a bucket of pieces goes off: of the pieces, their elements, and those of a bucket."""


def scattered(bucket: Sequence[Piece], fill: int, _capacity: int) -> int:
    """Of stage 3: several gradients are always put together anew (runtime/comm/coalesced_collectives.py:81-141)."""
    return fill if len(bucket) > 1 else 0


def schedule_of(arrivals: Sequence[Piece], capacity: int, copies: Copies) -> Schedule:
    """The schedule of gradients that arrive in this order.

    Layers that one stands for share their parameter: of what is copied at its arrivals the largest counts, and the
    buffer is made before the first of them.
    """
    found = Schedule()
    bucket: list[Piece] = []
    fill, claimed, before = 0, False, None
    for piece in arrivals:
        parameter = piece.parameter
        if bucket and fill + parameter.numel > capacity:
            copied = copies(bucket, fill, capacity)
            found.copies[id(parameter)] = max(found.copies.get(id(parameter), 0), copied)
            own = max(one.slice for one in bucket)
            found.largest[id(parameter)] = max(found.largest.get(id(parameter), 0), own)
            if not claimed and any(one.slice for one in bucket):
                claimed, found.claims = True, id(parameter) if parameter.multiplicity == 1 else before
            bucket, fill = [], 0
        bucket.append(piece)
        fill += parameter.numel
        before = id(parameter) if parameter.multiplicity == 1 else before
    found.rest = copies(bucket, fill, capacity)
    found.largest[None] = max((one.slice for one in bucket), default=0)
    return found


def flattened(bucket: Sequence[Piece], _fill: int, capacity: int) -> int:
    """Of stages 1 and 2: elements of the largest flattened copy.

    What lies behind each other in one partition is one tensor, and one tensor is not copied (average_tensor). An
    oversized gradient goes in lots, each with the tensor that exceeds a bucket (allreduce_and_scatter).
    """
    return _largest_lot(_tensors(bucket), capacity, 0)


def _tensors(bucket: Sequence[Piece]) -> list[tuple[int, int]]:
    """What lies behind each other in one partition, as its elements and how many like it there are."""
    tensors: list[tuple[int, int]] = []
    for _, run in groupby((part for piece in bucket for part in piece.parts()), key=itemgetter(0)):
        parts = list(run)
        tensors.append((sum(size for _, size, _ in parts), parts[0][2]))
    return tensors


class Widened(Struct, frozen=True):
    """Gradients are reduced in another dtype than their own: `reduced` bytes for `width`, among `world` ranks."""

    width: int
    reduced: int
    world: int

    def flattened(self, bucket: Sequence[Piece], fill: int, capacity: int) -> int:
        """Of stages 1 and 2: each lot is copied in that dtype, beside what it was flattened into (allreduce_bucket)."""
        del fill
        return _largest_lot(_tensors(bucket), capacity, self.reduced / self.width)

    def scattered(self, bucket: Sequence[Piece], fill: int, capacity: int) -> int:
        """Of stage 3, whose bucket has that dtype, in elements of `reduced` bytes (stage3.py, __avg_scatter_grads).

        What is put together anew, a gradient that is larger than a bucket, and the rank's part in its own dtype.
        """
        whole = fill if len(bucket) > 1 or fill > capacity else 0
        return whole + -(-fill * self.width // (self.world * self.reduced))


def _largest_lot(tensors: Sequence[tuple[int, int]], capacity: int, widening: float) -> int:
    """Of (elements, how many) what is copied of the largest lot, each of which ends beyond `capacity`.

    Several tensors are flattened; each lot is copied `widening` times as large besides.
    """
    found = lot = count = 0
    for size, times in tensors:
        left = times
        while left:
            taken = min(left, max(0, capacity - lot) // size + 1)
            lot, count, left = lot + taken * size, count + taken, left - taken
            if lot <= capacity:
                break
            found = max(found, int(lot * ((count > 1) + widening)))
            if count == taken:  # lots of equal tensors alone are alike
                left %= taken
            lot = count = 0
    return max(found, int(lot * ((count > 1) + widening)))

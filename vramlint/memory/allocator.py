"""The caching allocator: how much memory torch *reserves* for the tensors that a step allocates.

Follows torch 2.13 c10/cuda/CUDACachingAllocator.cpp on one stream: requests are rounded to 512 bytes; up to 1 MiB
comes from segments of 2 MiB, up to 10 MiB from segments of 20 MiB, more from a segment of its own rounded to 2 MiB; the
smallest free block that is large enough is taken, of equals the one at the lowest address, and split; neighbours that
are free are joined. A new segment lies below those before it: so the driver places them, as far as what 89 runs on an
H200 reserved tells (bench/gpu/measured: 63 to within 0.1 %; 57 if it lay above, 56 if the longest free came first).
`roundup_power2_divisions` makes requests coarser; `expandable_segments` are in expandable.py. Memory goes back to the
driver only where a garbage collection is asked for.

A step makes tens of thousands of requests, so one loop serves them, which calls next to nothing of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

MIB = 1 << 20
SMALL_LIMIT = MIB
"""kSmallSize: larger requests use the large pool."""
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
LARGE_LIMIT = 10 * MIB
"""kMinLargeAlloc: requests below it share a segment of 20 MiB."""
SEGMENT_ROUNDING = 2 * MIB
BLOCK = 512

ADDRESS_BITS = 42
"""A free block's key is its size with its address below: the smallest that fits comes first, of equals the lowest.
Addresses count blocks of 512 bytes, so that a run may go through 2 PiB of segments. Sizes are kept as they stand in
keys, which are sums then: a *span* is a number of bytes shifted by so many bits."""
SMALL_SPAN = SMALL_LIMIT << ADDRESS_BITS


class OutOfMemory(Exception):  # noqa: N818  torch's name
    """A request that the card cannot serve."""


class Piece:
    """A block of a segment, linked with its neighbours."""

    __slots__ = ("address", "freed", "key", "left", "pool", "right", "span", "waste")

    def __init__(self, span: int, pool: Pool, left: Piece | None, right: Piece | None, address: int) -> None:
        self.span = span
        self.address = address
        self.freed = 0  # when, in releases; counted where garbage is collected
        self.pool = pool
        self.left = left
        self.right = right
        self.key = 0  # its place in the pool; none while it is in use
        self.waste = 0  # span of what it has beyond the request

    @property
    def size(self) -> int:
        """Bytes."""
        return self.span >> ADDRESS_BITS

    @property
    def small(self) -> bool:
        """Whether it lies in the pool of small requests."""
        return self.pool[SMALL]


Pool = tuple[list[int], list[Piece], int, bool]
"""Keys of the free blocks in order, these blocks, the largest span that is not split off, and whether it is the small
one: a plain tuple, which a loop takes apart in no time."""
FREE: Final = 1
SMALL: Final = 3


def coarsened(size: int, divisions: int) -> int:
    """A request of `size` under `roundup_power2_divisions`: up to the next part between two powers of two.

    c10/core/AllocatorConfig.cpp and CUDACachingAllocator.cpp, round_size and roundup_power2_next_division. Requests of
    up to `divisions` blocks are left alone; 0 leaves all of them.
    """
    if not divisions or size <= BLOCK * divisions:
        return size
    part = 1 << max(0, size.bit_length() - divisions.bit_length())
    return -(-size // part) * part


Pieces = list[Piece]
Request = tuple[int, int, int]
"""The span of the block, its size in blocks of 512 bytes, and the span of what the tensor leaves of it."""
Operation = tuple[int, int, int, Pieces]
"""A request with where the piece goes, or (FREE…, 0, 0, where the piece to free is taken from)."""
FREE_YOUNGEST, FREE_OLDEST = 0, -1


def request(nbytes: int, divisions: int = 0) -> Request:
    """What is asked for `nbytes` (at least 1): whole blocks, as many as `divisions` make of it."""
    asked = -(-nbytes // BLOCK) * BLOCK or BLOCK
    size = coarsened(asked, divisions)
    return size << ADDRESS_BITS, size // BLOCK, (size - asked) << ADDRESS_BITS


class CachingAllocator:
    """Segments and free lists of one device. All figures are bytes."""

    unsplit = SMALL_SPAN
    """The largest span that stays with a block of the large pool from which less is taken."""
    grows = False
    """Whether each pool has one segment, whose last block counts as large as it can become."""

    def __init__(self, collect_above: int = 0, divisions: int = 0) -> None:
        self.reserved = 0
        self.peak = 0
        """The highest that `reserved` was."""
        self.collect_above = collect_above
        """Reserved bytes from which on segments that lie free are given back before a new one is taken; 0: never."""
        self.divisions = divisions
        """Parts between two powers of two that requests are rounded to; 0: none."""
        self._small: Pool = ([], [], 0, True)
        self._large: Pool = ([], [], self.unsplit, False)
        self._used = self._wasted = self._most_used = self._most_taken = 0
        """Spans of the blocks in use and of what they have beyond their tensors, of both at their highest the blocks'
        and the tensors'."""
        self._lowest = 1 << ADDRESS_BITS
        self._last: dict[bool, Piece | None] = {True: None, False: None}
        """Of the small and of the large pool, where it grows."""
        self._releases = 0
        self._spare: list[Piece] = []
        """Objects of blocks that were joined to others."""

    @property
    def blocks(self) -> int:
        """Bytes of the blocks in use, as torch counts allocated memory."""
        return self._used >> ADDRESS_BITS

    @property
    def tensors(self) -> int:
        """Bytes of the tensors in them."""
        return (self._used - self._wasted) >> ADDRESS_BITS

    @property
    def peak_blocks(self) -> int:
        """The highest that `blocks` was."""
        return self._most_used >> ADDRESS_BITS

    @property
    def peak_tensors(self) -> int:
        """The highest that `tensors` was."""
        return self._most_taken >> ADDRESS_BITS

    def allocate(self, nbytes: int) -> Piece:
        """Take a block for a request of `nbytes` (at least 1)."""
        pieces: Pieces = []
        self.serve([(*request(nbytes, self.divisions), pieces)])
        return pieces[0]

    def release(self, piece: Piece) -> None:
        """Give a block back to the free list, joined with free neighbours."""
        self.serve([(FREE_YOUNGEST, 0, 0, [piece])])

    def serve(self, operations: Iterable[Operation]) -> None:  # noqa: PLR0915  calls would take longer
        """Take and give back blocks, in order; where there is no piece to free, nothing is freed.

        Raises:
            OutOfMemory: the card has no memory for a request; the allocator is of no use any more.
        """
        small, large, limit, spare = self._small, self._large, SMALL_SPAN, self._spare
        collects, grows = self.collect_above, self.grows
        used = highest = self._used  # since the waste last changed the highest, with which the tensors' was reached
        wasted, most_used, most_taken = self._wasted, self._most_used, self._most_taken
        for span, count, rounding, pieces in operations:
            if span > 0:
                pool = small if span <= limit else large
                keys, free, unsplit, _ = pool
                position = bisect_left(keys, span)
                if grows and position + 1 < len(keys) and free[position].right is None:
                    position += 1
                if position == len(keys):
                    position = self._new_segment(span >> ADDRESS_BITS, pool)
                block = free[position]
                rest = block.span - span
                if rest > unsplit:
                    left, address = block.left, block.address
                    if spare:
                        piece = spare.pop()
                        piece.span, piece.pool, piece.address = span, pool, address
                        piece.left, piece.right = left, block
                    else:
                        piece = Piece(span, pool, left, block, address)
                    if left is not None:
                        left.right = piece
                    block.left = piece
                    block.span = rest
                    block.address = address = address + count
                    block.key = key = rest | address
                    if not position or keys[position - 1] < key:
                        keys[position] = key
                    else:
                        del keys[position], free[position]
                        position = bisect_left(keys, key, 0, position)
                        keys.insert(position, key)
                        free.insert(position, block)
                    used += span
                    waste = rounding
                else:
                    del keys[position], free[position]
                    piece = block
                    piece.key = 0
                    used += block.span
                    waste = rounding + rest
                pieces.append(piece)
                if waste:
                    piece.waste = waste
                    most_used = max(most_used, highest)
                    most_taken = max(most_taken, highest - wasted)
                    wasted += waste
                    highest = used
                elif used > highest:
                    highest = used
            elif pieces:
                piece = pieces.pop() if span == FREE_YOUNGEST else pieces.pop(0)
                length = piece.span
                used -= length
                if piece.waste:
                    most_used = max(most_used, highest)
                    most_taken = max(most_taken, highest - wasted)
                    wasted -= piece.waste
                    piece.waste = 0
                    highest = used
                keys, free, _, _ = piece.pool
                left, right = piece.left, piece.right
                if left is not None and left.key:
                    position = bisect_left(keys, left.key)
                    block = left
                    spare.append(piece)
                    if right is not None and right.key:
                        gone = bisect_left(keys, right.key)
                        del keys[gone], free[gone]
                        position -= gone < position
                        length += right.span
                        right.key = 0
                        spare.append(right)
                        right = right.right
                    block.right = right
                    if right is not None:
                        right.left = block
                    elif grows:
                        self._last[block.small] = block
                elif right is not None and right.key:
                    position = bisect_left(keys, right.key)
                    block = right
                    spare.append(piece)
                    block.left = left
                    if left is not None:
                        left.right = block
                    block.address = piece.address
                else:
                    piece.key = key = length | piece.address
                    position = bisect_left(keys, key)
                    keys.insert(position, key)
                    free.insert(position, piece)
                    if collects:
                        self._releases = piece.freed = self._releases + 1
                    continue
                block.span = length = length + block.span
                block.key = key = length | block.address
                after = position + 1
                if after == len(keys) or keys[after] > key:
                    keys[position] = key
                else:
                    del keys[position], free[position]
                    position = bisect_left(keys, key, position)
                    keys.insert(position, key)
                    free.insert(position, block)
                if collects:
                    self._releases = block.freed = self._releases + 1
        self._used, self._wasted = used, wasted
        self._most_used, self._most_taken = max(most_used, highest), max(most_taken, highest - wasted)

    def _new_segment(self, size: int, pool: Pool) -> int:
        """Reserve a segment for a request of `size` bytes; its position among the free blocks."""
        if self.collect_above and self.reserved > self.collect_above:
            self._collect()
        segment = _segment(size)
        self.reserved += segment
        self.peak = max(self.peak, self.reserved)
        self._lowest -= segment // BLOCK
        return enlist(Piece(segment << ADDRESS_BITS, pool, None, None, self._lowest))

    def give_back(self) -> None:
        """Return all segments that lie free as a whole to the driver, as torch does before it gives up."""
        for pool in (self._small, self._large):
            for block in _whole(pool):
                self._return(block)

    def _collect(self) -> None:
        """Give back the segments of the large pool that lie free as a whole, the longest free first, until enough."""
        for block in sorted(_whole(self._large), key=attrgetter("freed")):
            if self.reserved <= self.collect_above:
                return
            self._return(block)

    def _return(self, block: Piece) -> None:
        unlist(block)
        self.reserved -= block.size


class LimitedAllocator(CachingAllocator):
    """The same on a card with `room` bytes."""

    def __init__(self, room: int, divisions: int = 0) -> None:
        super().__init__(divisions=divisions)
        self.room = room

    def _new_segment(self, size: int, pool: Pool) -> int:
        if self.reserved + _segment(size) > self.room:
            self.give_back()
        if self.reserved + _segment(size) > self.room:
            raise OutOfMemory
        return super()._new_segment(size, pool)


def enlist(block: Piece) -> int:
    """Put a block among the free ones of its pool; its position there."""
    keys, free, _, _ = block.pool
    block.key = block.span | block.address
    position = bisect_left(keys, block.key)
    keys.insert(position, block.key)
    free.insert(position, block)
    return position


def unlist(block: Piece) -> None:
    """Take a block from the free ones of its pool."""
    keys, free, _, _ = block.pool
    position = bisect_left(keys, block.key)
    del keys[position], free[position]
    block.key = 0


def _whole(pool: Pool) -> list[Piece]:
    """The segments of a pool that lie free as a whole."""
    return [block for block in pool[FREE] if block.left is None and block.right is None]


def _segment(size: int) -> int:
    if size <= SMALL_LIMIT:
        return SMALL_SEGMENT
    if size < LARGE_LIMIT:
        return LARGE_SEGMENT
    return -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING

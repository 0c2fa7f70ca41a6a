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

from bisect import bisect_left, insort
from collections.abc import Iterable

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
Addresses count blocks of 512 bytes, so that a run may go through 2 PiB of segments."""


class OutOfMemory(Exception):  # noqa: N818  torch's name
    """A request that the card cannot serve."""


class Piece:
    """A block of a segment, linked with its neighbours."""

    __slots__ = ("address", "freed", "key", "left", "right", "size", "small", "taken")

    def __init__(self, size: int, small: bool, left: Piece | None, right: Piece | None, address: int) -> None:
        self.size = size
        self.address = address
        self.freed = 0  # when, in releases
        self.small = small
        self.left = left
        self.right = right
        self.key = 0  # its place in the free list; none while it is in use
        self.taken = 0  # of its bytes, what the request asked for


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
Operation = tuple[int, Pieces]
"""(bytes to allocate in whole blocks, where the piece goes) or (FREE…, where the piece to free is taken from)."""
FREE_YOUNGEST, FREE_OLDEST = 0, -1


def in_blocks(nbytes: int) -> int:
    """What a request of `nbytes` (at least 1) counts as: whole blocks."""
    return -(-nbytes // BLOCK) * BLOCK or BLOCK


class CachingAllocator:
    """Segments and free lists of one device. All figures are bytes."""

    def __init__(self, collect_above: int = 0, divisions: int = 0) -> None:
        self.reserved = 0
        self.peak = 0
        """The highest that `reserved` was."""
        self.blocks = self.tensors = 0
        """Bytes of the blocks in use, as torch counts allocated memory, and of the tensors in them."""
        self.peak_blocks = self.peak_tensors = 0
        self.collect_above = collect_above
        """Reserved bytes from which on segments that lie free are given back before a new one is taken; 0: never."""
        self.divisions = divisions
        """Parts between two powers of two that requests are rounded to; 0: none."""
        self._small: list[int] = []
        self._large: list[int] = []
        self._free: dict[int, Piece] = {}
        self._lowest = 1 << ADDRESS_BITS
        self._releases = 0
        self._spare: list[Piece] = []
        """Objects of blocks that were joined to others."""

    def allocate(self, nbytes: int) -> Piece:
        """Take a block for a request of `nbytes` (at least 1)."""
        pieces: Pieces = []
        CachingAllocator.serve(self, [(in_blocks(nbytes), pieces)])
        return pieces[0]

    def release(self, piece: Piece) -> None:
        """Give a block back to the free list, joined with free neighbours."""
        CachingAllocator.serve(self, [(FREE_YOUNGEST, [piece])])

    def serve(self, operations: Iterable[Operation]) -> None:  # noqa: PLR0915  calls would take longer
        """Take and give back blocks, in order; where there is no piece to free, nothing is freed.

        Raises:
            OutOfMemory: the card has no memory for a request; the allocator is of no use any more.
        """
        small_keys, large_keys, free, divisions = self._small, self._large, self._free, self.divisions
        tensors, blocks, peak_tensors, peak_blocks = self.tensors, self.blocks, self.peak_tensors, self.peak_blocks
        releases, spare = self._releases, self._spare
        for asked, pieces in operations:
            if asked > 0:
                size = coarsened(asked, divisions) if divisions else asked
                small = size <= SMALL_LIMIT
                keys = small_keys if small else large_keys
                position = bisect_left(keys, size << ADDRESS_BITS)
                found = position < len(keys)
                piece = free.pop(keys.pop(position)) if found else self._new_segment(size, small)
                piece.key = 0
                rest = piece.size - size
                if rest > SMALL_LIMIT or (small and rest):
                    right = piece.right
                    address = piece.address + size // BLOCK
                    if spare:
                        remainder = spare.pop()
                        remainder.size, remainder.small, remainder.address = rest, small, address
                        remainder.left, remainder.right = piece, right
                    else:
                        remainder = Piece(rest, small, piece, right, address)
                    remainder.freed = piece.freed
                    remainder.key = key = rest << ADDRESS_BITS | address
                    if right is not None:
                        right.left = remainder
                    piece.right = remainder
                    piece.size = size
                    free[key] = remainder
                    insort(keys, key)
                    blocks += size
                else:
                    blocks += piece.size
                piece.taken = asked
                tensors += asked
                if tensors > peak_tensors:  # noqa: PLR1730  a call of max takes longer
                    peak_tensors = tensors
                if blocks > peak_blocks:  # noqa: PLR1730
                    peak_blocks = blocks
                pieces.append(piece)
            elif pieces:
                piece = pieces.pop() if asked == FREE_YOUNGEST else pieces.pop(0)
                tensors -= piece.taken
                blocks -= piece.size
                keys = small_keys if piece.small else large_keys
                left, right = piece.left, piece.right
                if left is not None and left.key:
                    del keys[bisect_left(keys, left.key)], free[left.key]
                    piece.size += left.size
                    piece.address = left.address
                    piece.left = beyond = left.left
                    if beyond is not None:
                        beyond.right = piece
                    spare.append(left)
                if right is not None and right.key:
                    del keys[bisect_left(keys, right.key)], free[right.key]
                    piece.size += right.size
                    piece.right = beyond = right.right
                    if beyond is not None:
                        beyond.left = piece
                    spare.append(right)
                releases += 1
                piece.freed = releases
                piece.key = key = piece.size << ADDRESS_BITS | piece.address
                free[key] = piece
                insort(keys, key)
        self._releases = releases
        self.tensors, self.blocks, self.peak_tensors, self.peak_blocks = tensors, blocks, peak_tensors, peak_blocks

    def _new_segment(self, size: int, small: bool) -> Piece:
        if self.collect_above and self.reserved > self.collect_above:
            self._collect()
        segment = _segment(size)
        self.reserved += segment
        self.peak = max(self.peak, self.reserved)
        self._lowest -= segment // BLOCK
        return Piece(segment, small, None, None, self._lowest)

    def give_back(self) -> None:
        """Return all segments that lie free as a whole to the driver, as torch does before it gives up."""
        for keys in (self._small, self._large):
            for key in [key for key in keys if not (self._free[key].left or self._free[key].right)]:
                keys.remove(key)
                self.reserved -= self._free.pop(key).size

    def _collect(self) -> None:
        """Give back the segments of the large pool that lie free as a whole, the longest free first, until enough."""
        whole = [key for key in self._large if not (self._free[key].left or self._free[key].right)]
        for key in sorted(whole, key=lambda key: self._free[key].freed):
            if self.reserved <= self.collect_above:
                return
            self._large.remove(key)
            self.reserved -= self._free.pop(key).size


class LimitedAllocator(CachingAllocator):
    """The same on a card with `room` bytes."""

    def __init__(self, room: int, divisions: int = 0) -> None:
        super().__init__(divisions=divisions)
        self.room = room

    def _new_segment(self, size: int, small: bool) -> Piece:
        if self.reserved + _segment(size) > self.room:
            self.give_back()
        if self.reserved + _segment(size) > self.room:
            raise OutOfMemory
        return super()._new_segment(size, small)


def _segment(size: int) -> int:
    if size <= SMALL_LIMIT:
        return SMALL_SEGMENT
    if size < LARGE_LIMIT:
        return LARGE_SEGMENT
    return -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING

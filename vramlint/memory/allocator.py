"""The caching allocator: how much memory torch *reserves* for the tensors that a step allocates.

Follows torch 2.13 c10/cuda/CUDACachingAllocator.cpp with default settings on one stream: requests are rounded to
512 bytes; up to 1 MiB comes from segments of 2 MiB, up to 10 MiB from segments of 20 MiB, more from a segment
of its own rounded to 2 MiB; the smallest free block that is large enough is taken and split; neighbours that are
free are joined. Nothing is given back to the driver.
"""

from __future__ import annotations

from bisect import bisect_left, insort

MIB = 1 << 20
SMALL_LIMIT = MIB
"""kSmallSize: larger requests use the large pool."""
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
LARGE_LIMIT = 10 * MIB
"""kMinLargeAlloc: requests below it share a segment of 20 MiB."""
SEGMENT_ROUNDING = 2 * MIB
BLOCK = 512


class Piece:
    """A block of a segment, linked with its neighbours."""

    __slots__ = ("free", "key", "left", "right", "size", "small")

    def __init__(self, size: int, small: bool, left: Piece | None, right: Piece | None) -> None:
        self.size = size
        self.small = small
        self.left = left
        self.right = right
        self.free = False
        self.key = (0, 0)

    def __lt__(self, other: Piece) -> bool:
        """Never smaller: the key before it in a free-list entry is unique."""
        return False


class CachingAllocator:
    """Segments and free lists of one device. All figures are bytes."""

    def __init__(self) -> None:
        self.reserved = 0
        self._free: dict[bool, list[tuple[int, int, Piece]]] = {True: [], False: []}
        self._sequence = 0

    def allocate(self, nbytes: int) -> Piece:
        """Take a block for a request of `nbytes` (at least 1)."""
        size = max(BLOCK, -(-nbytes // BLOCK) * BLOCK)
        small = size <= SMALL_LIMIT
        free = self._free[small]
        position = bisect_left(free, (size, 0))
        if position < len(free):
            piece = free.pop(position)[2]
            piece.free = False
        else:
            segment = self._segment(size, small=small)
            self.reserved += segment
            piece = Piece(segment, small, None, None)
        rest = piece.size - size
        if rest >= BLOCK if small else rest > SMALL_LIMIT:
            remainder = Piece(rest, small, piece, piece.right)
            if piece.right is not None:
                piece.right.left = remainder
            piece.right = remainder
            piece.size = size
            self._put(remainder)
        return piece

    def release(self, piece: Piece) -> None:
        """Give a block back to the free list, joined with free neighbours."""
        left, right = piece.left, piece.right
        if left is not None and left.free:
            self._take(left)
            piece.size += left.size
            piece.left = left.left
            if piece.left is not None:
                piece.left.right = piece
        if right is not None and right.free:
            self._take(right)
            piece.size += right.size
            piece.right = right.right
            if piece.right is not None:
                piece.right.left = piece
        self._put(piece)

    @staticmethod
    def _segment(size: int, *, small: bool) -> int:
        if small:
            return SMALL_SEGMENT
        if size < LARGE_LIMIT:
            return LARGE_SEGMENT
        return -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING

    def _put(self, piece: Piece) -> None:
        self._sequence += 1
        piece.key = (piece.size, self._sequence)
        piece.free = True
        insort(self._free[piece.small], (piece.size, self._sequence, piece))

    def _take(self, piece: Piece) -> None:
        free = self._free[piece.small]
        del free[bisect_left(free, piece.key)]
        piece.free = False

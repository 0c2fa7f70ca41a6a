"""`expandable_segments:True`: one segment for each pool, mapped at its end in pages, on a card with and without an end.

torch 2.13 c10/cuda/CUDACachingAllocator.cpp, "Expandable Segments", find_expandable_block,
try_allocate_expandable_block, map_block, unmap_block. A card that has no page left gets back those in which nothing
lies; they are mapped again at the lowest address where free and unmapped stretches together are long enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from vramlint.memory.allocator import (
    ADDRESS_BITS,
    BLOCK,
    FREE,
    LARGE_SEGMENT,
    SMALL,
    SMALL_SEGMENT,
    CachingAllocator,
    OutOfMemory,
    Piece,
    Pool,
    enlist,
    unlist,
)


class ExpandableAllocator(CachingAllocator):
    """One segment per pool, mapped at its end in pages of 2 or 20 MiB.

    A free block at the end counts as large as it can become, so any other that fits is taken before it.
    """

    unsplit = 0
    grows = True

    def __init__(self, divisions: int = 0) -> None:
        super().__init__(divisions=divisions)

    def _new_segment(self, size: int, pool: Pool) -> int:
        return enlist(self._grown(size, pool))

    def _grown(self, size: int, pool: Pool) -> Piece:
        """The last block, mapped up to at least `size` bytes; not among the free ones."""
        small = pool[SMALL]
        last = self._last[small]
        if last is not None and last.key:
            unlist(last)
            piece = last
        else:
            piece = Piece(0, pool, last, None, 0 if last is None else _end(last))
            if last is not None:
                last.right = piece
        self._map(piece, _pages(size - piece.size, small))
        self._last[small] = piece
        return piece

    def _map(self, piece: Piece, size: int) -> None:
        piece.span += size << ADDRESS_BITS
        self.reserved += size
        self.peak = max(self.peak, self.reserved)


class Hole(Piece):
    """A stretch of addresses without memory behind it, between blocks in use."""

    __slots__ = ()


class LimitedExpandable(ExpandableAllocator):
    """The same on a card with `room` bytes."""

    def __init__(self, room: int, divisions: int = 0) -> None:
        super().__init__(divisions=divisions)
        self.room = room
        self._holes: dict[bool, list[Hole]] = {True: [], False: []}

    def _grown(self, size: int, pool: Pool) -> Piece:
        small = pool[SMALL]
        for unmapped in (False, True):
            stretch = self._stretch(size, small)
            if self.reserved + _missing(stretch, size, small) <= self.room:
                return self._joined(stretch, size, pool)
            if not unmapped:
                self._unmap()
        raise OutOfMemory

    def _stretch(self, size: int, small: bool) -> list[Piece]:
        """Free blocks and holes side by side at the lowest address: `size` bytes of them, or up to the end."""
        for hole in sorted(self._holes[small], key=lambda hole: hole.address):
            first = hole.left if hole.left is not None and hole.left.key else hole
            found, length = [], 0
            for piece in _idle_from(first):
                found.append(piece)
                length += piece.size
                if length >= size:
                    return found
            if found[-1].right is None:
                return found
        last = self._last[small]
        return [last] if last is not None and last.key else []

    def _joined(self, stretch: list[Piece], size: int, pool: Pool) -> Piece:
        """One block of the stretch, with memory behind its first `size` bytes at least."""
        if not any(isinstance(piece, Hole) for piece in stretch):
            return super()._grown(size, pool)
        joined: Piece | None = None
        for piece in stretch:
            if joined is not None and joined.size >= size and isinstance(piece, Hole):
                break
            joined = self._with(joined, piece, size)
        if joined is None:
            raise OutOfMemory
        if joined.right is not None and joined.right.key:
            joined = self._with(joined, joined.right, size)
        if joined.right is None:
            self._last[joined.small] = joined
            if joined.size < size:
                self._map(joined, _pages(size - joined.size, joined.small))
        return joined

    def _with(self, joined: Piece | None, piece: Piece, size: int) -> Piece:
        """What was joined so far with the neighbour behind it; of a hole the pages that are needed."""
        if not isinstance(piece, Hole):
            unlist(piece)
            return piece if joined is None else _merged(joined, piece)
        holes = self._holes[piece.small]
        missing = _pages(size - (joined.size if joined else 0), piece.small)
        taken = min(piece.size, missing)
        block = joined
        if block is None:
            block = Piece(0, piece.pool, piece.left, piece, piece.address)
            if piece.left is not None:
                piece.left.right = block
            piece.left = block
        self._map(block, taken)
        piece.span -= taken << ADDRESS_BITS
        piece.address += taken // BLOCK
        if not piece.size:
            holes.remove(piece)
            block.right = piece.right
            if piece.right is not None:
                piece.right.left = block
        return block

    def _unmap(self) -> None:
        """Give back the pages of both pools in which nothing lies."""
        for piece in [*self._small[FREE], *self._large[FREE]]:
            page = SMALL_SEGMENT if piece.small else LARGE_SEGMENT
            start = piece.address * BLOCK
            begin, end = -(-start // page) * page, (start + piece.size) // page * page
            if begin < end:
                self._cut(piece, begin - start, end - start)

    def _cut(self, piece: Piece, begin: int, end: int) -> None:
        """Take the memory from behind the bytes `begin` to `end` of a free block."""
        unlist(piece)
        self.reserved -= end - begin
        pool, small, left, right = piece.pool, piece.small, piece.left, piece.right
        before = Piece(begin << ADDRESS_BITS, pool, left, None, piece.address) if begin else None
        if before is not None:
            enlist(before)
        if right is None:
            self._last[small] = before or left
            _link(left, before)
            return
        hole = Hole((end - begin) << ADDRESS_BITS, pool, None, None, piece.address + begin // BLOCK)
        rest = piece.span - (end << ADDRESS_BITS)
        after = Piece(rest, pool, None, None, piece.address + end // BLOCK) if rest else None
        chain = [item for item in (left, before, hole, after, right) if item is not None]
        for one, other in pairwise(chain):
            _link(one, other)
        if left is None:
            chain[0].left = None
        if after is not None:
            enlist(after)
        self._holes[small].append(hole)
        self._close(hole)

    def _close(self, hole: Hole) -> None:
        """Make one hole of those side by side."""
        holes = self._holes[hole.small]
        right, left = hole.right, hole.left
        if isinstance(right, Hole):
            holes.remove(right)
            _merged(hole, right)
        if isinstance(left, Hole):
            holes.remove(hole)
            _merged(left, hole)


def _pages(size: int, small: bool) -> int:
    page = SMALL_SEGMENT if small else LARGE_SEGMENT
    return max(0, -(-size // page) * page)


def _end(piece: Piece) -> int:
    return piece.address + piece.size // BLOCK


def _idle_from(piece: Piece | None) -> Iterator[Piece]:
    while piece is not None and (piece.key or isinstance(piece, Hole)):
        yield piece
        piece = piece.right


def _missing(stretch: list[Piece], size: int, small: bool) -> int:
    """Bytes that have to be mapped for `size` bytes of a stretch."""
    length = missing = 0
    for piece in stretch:
        if isinstance(piece, Hole):
            taken = min(piece.size, _pages(size - length, small))
            missing += taken
            length += taken
        else:
            length += piece.size
        if length >= size:
            return missing
    return missing + _pages(size - length, small)


def _link(left: Piece | None, right: Piece | None) -> None:
    if left is not None:
        left.right = right
    if right is not None:
        right.left = left


def _merged(left: Piece, right: Piece) -> Piece:
    """Two neighbours as one, the left one's."""
    left.span += right.span
    _link(left, right.right)
    if right.right is None:
        left.right = None
    return left

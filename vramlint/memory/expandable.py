"""`expandable_segments:True`: one segment for each pool, mapped at its end in pages, on a card with and without an end.

torch 2.13 c10/cuda/CUDACachingAllocator.cpp, "Expandable Segments", find_expandable_block,
try_allocate_expandable_block, map_block, unmap_block. A card that has no page left gets back those in which nothing
lies; they are mapped again at the lowest address where free and unmapped stretches together are long enough.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import pairwise

from vramlint.memory.allocator import (
    ADDRESS_BITS,
    BLOCK,
    FREE_YOUNGEST,
    LARGE_SEGMENT,
    SMALL_LIMIT,
    SMALL_SEGMENT,
    CachingAllocator,
    Operation,
    OutOfMemory,
    Piece,
    coarsened,
    in_blocks,
)


class ExpandableAllocator(CachingAllocator):
    """One segment per pool, mapped at its end in pages of 2 or 20 MiB.

    A free block at the end counts as large as it can become, so any other that fits is taken before it.
    """

    def __init__(self, divisions: int = 0) -> None:
        super().__init__(divisions=divisions)
        self._last: dict[bool, Piece | None] = {True: None, False: None}

    def allocate(self, nbytes: int) -> Piece:
        """Take a block for a request of `nbytes` (at least 1)."""
        size = asked = in_blocks(nbytes)
        if self.divisions:
            size = coarsened(asked, self.divisions)
        small = size <= SMALL_LIMIT
        keys = self._small if small else self._large
        position = bisect_left(keys, size << ADDRESS_BITS)
        if position + 1 < len(keys) and self._free[keys[position]].right is None:
            position += 1
        piece = self._free.pop(keys.pop(position)) if position < len(keys) else self._grown(size, small)
        piece.key = 0
        rest = piece.size - size
        if rest:
            right = piece.right
            piece.right = remainder = Piece(rest, small, piece, right, piece.address + size // BLOCK)
            if right is None:
                self._last[small] = remainder
            else:
                right.left = remainder
            piece.size = size
            self._put(remainder)
        self._take(piece, asked)
        return piece

    def serve(self, operations: Iterable[Operation]) -> None:
        """Take and give back blocks, in order.

        Raises:
            OutOfMemory: the card has no memory for a request.
        """
        for asked, pieces in operations:
            if asked > 0:
                pieces.append(self.allocate(asked))
            elif pieces:
                self.release(pieces.pop() if asked == FREE_YOUNGEST else pieces.pop(0))

    def _take(self, piece: Piece, size: int) -> None:
        piece.taken = size
        self.tensors += size
        self.blocks += piece.size
        self.peak_tensors = max(self.peak_tensors, self.tensors)
        self.peak_blocks = max(self.peak_blocks, self.blocks)

    def _grown(self, size: int, small: bool) -> Piece:
        """The last block, mapped up to at least `size`."""
        last = self._last[small]
        if last is not None and last.key:
            self._unlist(last)
            piece = last
        else:
            piece = Piece(0, small, last, None, 0 if last is None else _end(last))
            if last is not None:
                last.right = piece
        self._map(piece, _pages(size - piece.size, small))
        self._last[small] = piece
        return piece

    def _map(self, piece: Piece, size: int) -> None:
        piece.size += size
        self.reserved += size
        self.peak = max(self.peak, self.reserved)

    def _put(self, piece: Piece) -> None:
        piece.key = key = piece.size << ADDRESS_BITS | piece.address
        self._free[key] = piece
        insort(self._small if piece.small else self._large, key)

    def _unlist(self, piece: Piece) -> None:
        keys = self._small if piece.small else self._large
        del keys[bisect_left(keys, piece.key)], self._free[piece.key]
        piece.key = 0

    def release(self, piece: Piece) -> None:
        """Give a block back to the free list, joined with free neighbours."""
        super().release(piece)
        if piece.right is None:
            self._last[piece.small] = piece


class Hole(Piece):
    """A stretch of addresses without memory behind it, between blocks in use."""

    __slots__ = ()


class LimitedExpandable(ExpandableAllocator):
    """The same on a card with `room` bytes."""

    def __init__(self, room: int, divisions: int = 0) -> None:
        super().__init__(divisions=divisions)
        self.room = room
        self._holes: dict[bool, list[Hole]] = {True: [], False: []}

    def _grown(self, size: int, small: bool) -> Piece:
        for unmapped in (False, True):
            stretch = self._stretch(size, small)
            if self.reserved + _missing(stretch, size, small) <= self.room:
                return self._joined(stretch, size, small)
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

    def _joined(self, stretch: list[Piece], size: int, small: bool) -> Piece:
        """One block of the stretch, with memory behind its first `size` bytes at least."""
        if not any(isinstance(piece, Hole) for piece in stretch):
            return super()._grown(size, small)
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
            self._last[small] = joined
            if joined.size < size:
                self._map(joined, _pages(size - joined.size, small))
        return joined

    def _with(self, joined: Piece | None, piece: Piece, size: int) -> Piece:
        """What was joined so far with the neighbour behind it; of a hole the pages that are needed."""
        if not isinstance(piece, Hole):
            self._unlist(piece)
            return piece if joined is None else _merged(joined, piece)
        holes = self._holes[piece.small]
        missing = _pages(size - (joined.size if joined else 0), piece.small)
        taken = min(piece.size, missing)
        block = joined
        if block is None:
            block = Piece(0, piece.small, piece.left, piece, piece.address)
            if piece.left is not None:
                piece.left.right = block
            piece.left = block
        self._map(block, taken)
        piece.size -= taken
        piece.address += taken // BLOCK
        if not piece.size:
            holes.remove(piece)
            block.right = piece.right
            if piece.right is not None:
                piece.right.left = block
        return block

    def _unmap(self) -> None:
        """Give back the pages of both pools in which nothing lies."""
        for piece in list(self._free.values()):
            page = SMALL_SEGMENT if piece.small else LARGE_SEGMENT
            start = piece.address * BLOCK
            begin, end = -(-start // page) * page, (start + piece.size) // page * page
            if begin < end:
                self._cut(piece, begin - start, end - start)

    def _cut(self, piece: Piece, begin: int, end: int) -> None:
        """Take the memory from behind the bytes `begin` to `end` of a free block."""
        self._unlist(piece)
        self.reserved -= end - begin
        small, left, right = piece.small, piece.left, piece.right
        before = Piece(begin, small, left, None, piece.address) if begin else None
        if before is not None:
            self._put(before)
        if right is None:
            self._last[small] = before or left
            _link(left, before)
            return
        hole = Hole(end - begin, small, None, None, piece.address + begin // BLOCK)
        after = Piece(piece.size - end, small, None, None, piece.address + end // BLOCK) if end < piece.size else None
        chain = [item for item in (left, before, hole, after, right) if item is not None]
        for one, other in pairwise(chain):
            _link(one, other)
        if left is None:
            chain[0].left = None
        if after is not None:
            self._put(after)
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
    left.size += right.size
    _link(left, right.right)
    if right.right is None:
        left.right = None
    return left

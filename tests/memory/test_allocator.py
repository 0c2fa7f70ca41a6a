"""The caching allocator's rounding, pools, splitting and joining."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.memory.allocator import (
    FREE_YOUNGEST,
    LARGE_SEGMENT,
    MIB,
    SMALL_SEGMENT,
    CachingAllocator,
    Operation,
    OutOfMemory,
    Piece,
    coarsened,
    request,
)
from vramlint.memory.expandable import ExpandableAllocator, LimitedExpandable


def test_small_requests_share_a_segment():
    allocator = CachingAllocator()
    for _ in range(SMALL_SEGMENT // 512):
        allocator.allocate(1)

    assert allocator.reserved == SMALL_SEGMENT
    allocator.allocate(1)
    assert allocator.reserved == 2 * SMALL_SEGMENT


def test_medium_requests_come_from_twenty_mebibytes():
    allocator = CachingAllocator()
    allocator.allocate(9 * MIB)
    allocator.allocate(9 * MIB)

    assert allocator.reserved == LARGE_SEGMENT


def test_large_requests_get_segments_of_their_own():
    allocator = CachingAllocator()
    allocator.allocate(11 * MIB + 1)

    assert allocator.reserved == 12 * MIB


def test_freed_neighbours_are_joined_and_used_again():
    allocator = CachingAllocator()
    first, second = allocator.allocate(8 * MIB), allocator.allocate(8 * MIB)
    allocator.release(first)
    allocator.release(second)
    allocator.allocate(9 * MIB)

    assert allocator.reserved == LARGE_SEGMENT


def test_of_equal_blocks_the_one_at_the_lowest_address_is_taken():
    """A later segment lies below an earlier one."""
    allocator = CachingAllocator()
    above, below = allocator.allocate(40 * MIB), allocator.allocate(40 * MIB)
    allocator.release(below)
    allocator.release(above)

    assert allocator.allocate(40 * MIB).address == below.address < above.address


def test_a_large_block_is_not_split_for_a_remainder_of_one_mebibyte():
    allocator = CachingAllocator()
    piece = allocator.allocate(32 * MIB)
    allocator.release(piece)
    taken = allocator.allocate(31 * MIB)

    assert taken.size == 32 * MIB


@given(st.lists(st.tuples(st.integers(1, 64 * MIB), st.booleans()), max_size=60))
def test_reserved_covers_what_is_alive_and_never_shrinks(requests: list[tuple[int, bool]]):
    allocator = CachingAllocator()
    alive = []
    before = 0
    for size, free_oldest in requests:
        alive.append(allocator.allocate(size))
        if free_oldest:
            allocator.release(alive.pop(0))
        assert allocator.reserved >= max(before, sum(piece.size for piece in alive))
        before = allocator.reserved


class PlainAllocator:
    """The same allocator as it is told: every free block of every segment is looked at for every request."""

    def __init__(self) -> None:
        self.segments: list[tuple[bool, list[list[int]]]] = []
        """Of each segment whether it is small, and its blocks: address, size, and the request that has it or 0."""
        self.reserved = self.peak_blocks = self.peak_tensors = 0

    def allocate(self, nbytes: int) -> int:
        asked = -(-nbytes // 512) * 512
        small = asked <= MIB
        fits = [
            (block[1], block[0], blocks, at)
            for kind, blocks in self.segments
            for at, block in enumerate(blocks)
            if kind is small and not block[2] and block[1] >= asked
        ]
        if not fits:
            size = SMALL_SEGMENT if small else LARGE_SEGMENT if asked < 10 * MIB else -(-asked // (2 * MIB)) * 2 * MIB
            self.reserved += size
            self.segments.append((small, [[-self.reserved, size, 0]]))
            fits = [(size, -self.reserved, self.segments[-1][1], 0)]
        size, address, blocks, at = min(fits, key=lambda fit: fit[:2])
        blocks[at][2] = asked
        if size - asked > (0 if small else MIB):
            blocks[at][1] = asked
            blocks.insert(at + 1, [address + asked, size - asked, 0])
        used = [block for _, blocks in self.segments for block in blocks if block[2]]
        self.peak_blocks = max(self.peak_blocks, sum(size for _, size, _ in used))
        self.peak_tensors = max(self.peak_tensors, sum(asked for *_, asked in used))
        return address

    def release(self, address: int) -> None:
        for _, blocks in self.segments:
            for block in blocks:
                block[2] *= block[0] != address
            for at in range(len(blocks) - 1, 0, -1):
                if not (blocks[at][2] or blocks[at - 1][2]):
                    blocks[at - 1][1] += blocks.pop(at)[1]


@pytest.mark.parametrize("seed", range(6))
def test_blocks_lie_where_looking_at_all_of_them_puts_them(seed: int):
    chance = Random(seed)  # noqa: S311  no secret
    sizes = [*(chance.randrange(1, 1 << chance.randrange(10, 27)) for _ in range(12)), 512, MIB, 11 * MIB]
    allocator, plain = CachingAllocator(), PlainAllocator()
    places: list[list[Piece]] = []
    addresses: list[int] = []
    operations: list[Operation] = []
    alive: list[int] = []
    for number in range(300):
        size = chance.choice(sizes)
        places.append([])
        operations.append((*request(size), places[number]))
        addresses.append(plain.allocate(size))
        alive.append(number)
        for _ in range(chance.randrange(-2, 3)):
            if alive:
                gone = alive.pop(chance.randrange(len(alive)))
                operations.append((FREE_YOUNGEST, 0, 0, places[gone]))
                plain.release(addresses[gone])
    allocator.serve(operations)

    assert len(alive) > 20
    assert len({places[number][0].address * 512 - addresses[number] for number in alive}) == 1
    figures = (allocator.reserved, allocator.peak_blocks, allocator.peak_tensors)
    assert figures == (plain.reserved, plain.peak_blocks, plain.peak_tensors)
    allocator.serve([(FREE_YOUNGEST, 0, 0, places[number]) for number in alive])
    assert (allocator.blocks, allocator.tensors) == (0, 0)


def test_an_expandable_segment_grows_by_what_its_last_free_block_lacks():
    allocator = ExpandableAllocator()
    first = allocator.allocate(30 * MIB)
    assert allocator.reserved == 2 * LARGE_SEGMENT
    allocator.allocate(20 * MIB)
    assert allocator.reserved == 3 * LARGE_SEGMENT
    allocator.release(first)
    allocator.allocate(30 * MIB)
    assert allocator.reserved == 3 * LARGE_SEGMENT


def test_an_expandable_segment_is_split_to_the_block():
    allocator = ExpandableAllocator()
    allocator.allocate(19 * MIB)
    allocator.allocate(MIB + 1)

    assert allocator.reserved == 2 * LARGE_SEGMENT
    assert allocator.allocate(2 * MIB).size == 2 * MIB


@given(st.lists(st.tuples(st.integers(1, 64 * MIB), st.integers(0, 3)), max_size=60))
def test_expandable_segments_cover_what_is_alive(requests: list[tuple[int, int]]):
    allocator = ExpandableAllocator()
    alive = []
    for size, frees in requests:
        alive.append(allocator.allocate(size))
        for _ in range(min(frees, len(alive))):
            allocator.release(alive.pop(0))
        assert sum(piece.size for piece in alive) <= allocator.reserved <= allocator.peak


def test_pages_in_which_nothing_lies_are_mapped_elsewhere_before_a_request_fails():
    allocator = LimitedExpandable(5 * LARGE_SEGMENT)
    first = allocator.allocate(60 * MIB)
    allocator.allocate(20 * MIB)
    allocator.release(first)
    big = allocator.allocate(70 * MIB)

    assert allocator.reserved == 5 * LARGE_SEGMENT
    assert big.address > first.address  # the hole before is too short
    with pytest.raises(OutOfMemory):
        allocator.allocate(11 * MIB)


def test_a_hole_is_filled_from_its_lowest_address():
    allocator = LimitedExpandable(5 * LARGE_SEGMENT)
    allocator.allocate(10 * MIB)
    gap, _ = allocator.allocate(30 * MIB), allocator.allocate(20 * MIB)
    allocator.release(gap)
    allocator.release(allocator.allocate(50 * MIB))  # pages of the gap are behind it now
    first, _ = allocator.allocate(25 * MIB), allocator.allocate(30 * MIB)
    allocator.release(first)
    again = allocator.allocate(28 * MIB)

    assert again.address == gap.address
    assert allocator.reserved == 5 * LARGE_SEGMENT


@given(st.lists(st.tuples(st.integers(1, 64 * MIB), st.integers(0, 3)), max_size=60), st.integers(3, 12))
def test_a_limited_card_serves_requests_without_overlaps(requests: list[tuple[int, int]], pages: int):
    room = pages * LARGE_SEGMENT
    limited, endless = LimitedExpandable(room), ExpandableAllocator()
    alive = []
    for size, frees in requests:
        try:
            piece = limited.allocate(size)
        except OutOfMemory:
            break
        alive.append((piece, endless.allocate(size)))
        for _ in range(min(frees, len(alive))):
            mine, other = alive.pop(0)
            limited.release(mine)
            endless.release(other)
        assert sum(piece.size for piece, _ in alive) <= limited.reserved <= room
        if endless.peak <= room:
            assert limited.reserved == endless.reserved
        for small in (True, False):
            spans = sorted((p.address, p.address + p.size // 512) for p, _ in alive if p.small is small)
            assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_garbage_collection_gives_back_segments_that_lie_free():
    allocator = CachingAllocator(collect_above=50 * MIB)
    for size in (30 * MIB, 40 * MIB):
        allocator.release(allocator.allocate(size))
    allocator.allocate(80 * MIB)

    assert allocator.peak == (40 + 80) * MIB
    assert CachingAllocator().collect_above == 0


@pytest.mark.parametrize(
    ("size", "rounded"),
    [
        (8192, 8192),
        (8704, 8704),
        (33 * 1024, 34 * 1024),
        (64 * MIB, 64 * MIB),
        (65 * MIB, 68 * MIB),
        (92 * MIB, 92 * MIB),
    ],
)
def test_requests_are_rounded_to_sixteenths_between_powers_of_two(size: int, rounded: int):
    assert coarsened(size, 16) == rounded
    assert coarsened(size, 0) == size


@given(st.integers(1, 1 << 40), st.sampled_from([2, 4, 8, 16]))
def test_coarser_requests_hold_what_was_asked_for(size: int, divisions: int):
    asked = -(-size // 512) * 512

    assert asked <= coarsened(asked, divisions) <= asked * (1 + 1 / divisions)


def test_blocks_count_what_rounding_adds_and_tensors_do_not():
    for allocator in (CachingAllocator(divisions=16), ExpandableAllocator(16)):
        piece = allocator.allocate(65 * MIB)
        assert (allocator.blocks, allocator.tensors) == (68 * MIB, 65 * MIB)
        allocator.release(piece)
        assert (allocator.blocks, allocator.tensors) == (0, 0)

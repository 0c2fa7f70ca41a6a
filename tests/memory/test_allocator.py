"""The caching allocator's rounding, pools, splitting and joining."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vramlint.memory.allocator import LARGE_SEGMENT, MIB, SMALL_SEGMENT, CachingAllocator


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

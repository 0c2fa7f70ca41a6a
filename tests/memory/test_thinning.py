from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from vramlint.memory.recorder import Event
from vramlint.memory.thinning import KEPT, thinned

MIB = 1 << 20


def loop(turns: int, *, keeps: bool = False) -> tuple[list[Event], list[int]]:
    """Turns that make two tensors one after the other, and with them one that stays until the end or is freed next."""
    events: list[Event] = []
    sizes: list[int] = []
    for _ in range(turns):
        first = len(sizes)
        sizes += [MIB, 2 * MIB, 512]
        events += [(first, 1), (first + 1, 1), (first, -1), (first + 2, 1), (first + 1, -1)]
        if not keeps:
            events.append((first + 2, -1))
    return events, sizes


def highest(events: list[Event], sizes: list[int]) -> int:
    return max(accumulate(sizes[index] * count for index, count in events), default=0)


def test_the_first_and_the_last_turns_stay():
    events, sizes = loop(4 * KEPT)
    found = thinned(events, sizes, sizes.__getitem__)

    assert found == [*events[: 6 * KEPT], *events[-6 * KEPT :]]


def test_a_short_loop_stays_whole():
    events, sizes = loop(2 * KEPT)

    assert thinned(events, sizes, sizes.__getitem__) == events


def test_what_stays_is_kept_and_so_is_the_turn_that_needs_most():
    events, sizes = loop(6 * KEPT, keeps=True)
    middle = 3 * KEPT
    bump: list[Event] = [(len(sizes), 1)]
    sizes.append(MIB)
    position = 5 * middle + 2  # while both tensors of a turn in the middle are there
    events[position:position] = bump
    events.append((len(sizes) - 1, -1))
    events[position + 5 : position + 5] = [(len(sizes), -1)]  # what came from elsewhere goes: never as much again
    sizes.append(64 * MIB)
    found = list(thinned(events, sizes, sizes.__getitem__))

    assert [event for event in found if sizes[event[0]] == 512] == [event for event in events if sizes[event[0]] == 512]
    assert highest(found, sizes) == highest(events, sizes)
    assert {(3 * middle, 1), (3 * middle + 1, 1)} <= set(found)


@given(st.lists(st.sampled_from([(MIB, 1), (MIB, 4), (512, 1), (512, 40), (3 * MIB, 2)]), max_size=120), st.data())
def test_the_peak_and_what_is_left_stay_the_same(tensors: list[tuple[int, int]], data: st.DataObject):
    """Tensors of some sizes that live for some turns, in the order in which they come."""
    sizes = [size for size, _ in tensors]
    ends = [at + turns for at, (_, turns) in enumerate(tensors)]
    lasting = {at for at in range(len(tensors)) if data.draw(st.integers(0, 9)) == 0}
    events: list[Event] = []
    for now in range(len(tensors) + 41):
        events += [(at, -1) for at, end in enumerate(ends) if end == now and at not in lasting]
        if now < len(tensors):
            events.append((now, 1))
    found = list(thinned(events, sizes, sizes.__getitem__))

    assert highest(found, sizes) == highest(events, sizes)
    assert sum(sizes[index] * count for index, count in found) == sum(sizes[index] * count for index, count in events)
    left = iter(events)
    assert all(event in left for event in found)

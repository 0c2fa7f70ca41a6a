"""Long loops in a log, without most of what comes and goes inside a turn.

A turn of a loop over the chunks of a sequence makes some fifty tensors, most of which it frees; there are tens of turns
in each of tens of layers. What is left out here is not there when the memory is highest, so that no peak changes. The
caching allocator serves the same without it, but for what the first and the last turns, which stay, do not show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate

from vramlint.memory.recorder import Event, rounded

KEPT = 8
"""Of what recurs the first and the last so many stay."""


def thinned(events: Sequence[Event], sizes: Sequence[int], kind_of: Callable[[int], Hashable]) -> Sequence[Event]:
    """The events of a stretch without what comes, goes and recurs in it while it needs less than at its highest.

    Args:
        events: in order; nothing else happens in between.
        sizes: bytes by index.
        kind_of: tells what recurs, by index.
    """
    if len(events) <= 4 * KEPT:
        return events
    levels = list(accumulate([rounded(sizes[index]) * count for index, count in events]))
    highest = levels.index(max(levels))
    begun = {index: position for position, (index, count) in enumerate(events) if count == 1}
    passing: defaultdict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    for position, (index, count) in enumerate(events):
        if count == -1 and index in begun:
            passing[kind_of(index)].append((begun[index], position))
    left_out = {
        position
        for found in passing.values()
        for begin, end in sorted(found)[KEPT:-KEPT]
        if not begin <= highest < end
        for position in (begin, end)
    }
    return [event for position, event in enumerate(events) if position not in left_out] if left_out else events

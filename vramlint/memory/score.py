"""A playback written out: the requests and releases that the allocator serves, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from msgspec import Struct

from vramlint.memory.allocator import FREE_OLDEST, FREE_YOUNGEST, CachingAllocator, Operation, Pieces, Request, request
from vramlint.memory.handing import carried
from vramlint.memory.holdings import Tensors
from vramlint.memory.playback import Playback
from vramlint.memory.recorder import rounded

_FREE: Request = (FREE_YOUNGEST, 0, 0)
LUMP = 1 << 20
"""Many equal small tensors that come at once are played as one of up to so many bytes."""


class Score(Struct, frozen=True):
    """A playback written out, to be played more than once."""

    parts: Sequence[Sequence[Operation]]
    """What is served one after the other."""
    places: Sequence[Pieces]
    """Where pieces wait to be freed."""

    @classmethod
    def of(cls, playback: Playback, depth: int) -> Score:
        """Written out with every repetition cut to at most `depth`."""
        parts: list[Sequence[Operation]] = []
        lasting: Pieces = []
        requests = _Requests(playback.allocator().divisions)
        parts += _settling(playback.resident, depth, lasting, requests)
        there: Pieces = []
        for sizes in playback.before:
            parts += [[(*requests[size], there) for size in sizes], [(FREE_OLDEST, 0, 0, there)] * len(sizes)]
        alive: list[Pieces] = [[] for _ in playback.sizes]
        tracks = [_track(playback, number, depth, alive, requests) for number in range(len(playback.blocks))]
        for step in range(playback.times):
            for track in tracks:
                parts += track.first if step == 0 else track.later
        handed = [pieces for track in tracks for pieces in track.handed]
        return cls(parts, [lasting, there, *alive, *handed])

    def play(self, allocator: CachingAllocator) -> None:
        """Let `allocator` serve it all.

        Raises:
            OutOfMemory: the allocator is a limited one, and does not serve all requests.
        """
        for pieces in self.places:
            pieces.clear()
        for operations in self.parts:
            allocator.serve(operations)


class _Requests(dict[int, Request]):
    """What is asked for so many bytes; of the few sizes that a log has, each is worked out once."""

    def __init__(self, divisions: int) -> None:
        super().__init__()
        self.divisions = divisions

    def __missing__(self, nbytes: int) -> Request:
        self[nbytes] = found = request(nbytes, self.divisions)
        return found


def settle(playback: Playback) -> CachingAllocator:
    """An allocator that holds what stays, before anything else came."""
    allocator = playback.allocator()
    for operations in _settling(playback.resident, playback.depth, [], _Requests(allocator.divisions)):
        allocator.serve(operations)
    return allocator


def _settling(
    resident: Iterable[Tensors], depth: int, lasting: Pieces, requests: Mapping[int, Request]
) -> Iterator[list[Operation]]:
    """The requests for what stays, repeated layers one after the other."""
    for stretch, found in groupby(resident, key=lambda tensors: tensors.stretch):
        members = list(found)
        if stretch is None:
            yield [(*requests[tensors.nbytes], lasting) for tensors in members for _ in range(tensors.count)]
        else:
            one = [(*requests[tensors.nbytes], lasting) for tensors in members]
            yield one * min(depth, members[0].count)


class _Track(Struct, frozen=True):
    """A block as it is played: the operations of every repetition, in the first step and in later ones."""

    first: Sequence[Sequence[Operation]]
    later: Sequence[Sequence[Operation]]
    handed: Sequence[Pieces]
    """Where pieces wait that one repetition leaves to the next."""


def _track(
    playback: Playback, number: int, depth: int, alive: Sequence[Pieces], requests: Mapping[int, Request]
) -> _Track:
    block = playback.blocks[number]
    times = min(depth, block.repeat)
    taken = carried(playback.blocks, playback.sizes, number) if times > 1 else {}
    handed: dict[int, Pieces] = {position: [] for position in taken.values()}
    roles = playback.roles if times > 1 else {}
    sizes = playback.sizes
    events, indices = block.events, [index for index, _ in block.events]
    single = all(map(sizes.__getitem__, indices)) and {count for _, count in events} <= {1, -1}
    asked = [requests[sizes[index]] if count > 0 else _FREE for index, count in events] if single else []
    whole = {False: playback.later.isdisjoint(indices), True: playback.once.isdisjoint(indices)}

    def waiting(*, follows: bool, ends: bool) -> tuple[list[Pieces], set[int]]:
        """Where each event's pieces go or wait, and which events take the oldest."""
        pieces = [*map(alive.__getitem__, indices)]
        oldest: set[int] = set()
        for position in handed if not ends else ():
            pieces[position] = handed[position]
        for position, source in taken.items() if follows else ():
            pieces[position] = handed[source]
            oldest.add(position)
        for position, (index, count) in enumerate(events) if roles and not ends else ():
            if count < 0 and index in roles and position not in taken:
                pieces[position] = alive[roles[index]]
        return pieces, oldest

    def repetition(*, follows: bool, ends: bool, later: bool) -> list[Operation]:
        pieces, oldest = waiting(follows=follows, ends=ends)
        if single and whole[later]:  # nearly all are
            operations = [
                (span, count, rounding, place) for (span, count, rounding), place in zip(asked, pieces, strict=True)
            ]
            for position in oldest:
                operations[position] = (FREE_OLDEST, 0, 0, pieces[position])
            return operations
        left_out = playback.once if later else playback.later
        operations = []
        for position, ((index, count), place) in enumerate(zip(events, pieces, strict=True)):
            if index not in left_out:
                free = FREE_OLDEST if position in oldest else FREE_YOUNGEST
                operations += _operations(sizes[index], count, place, free, requests)
        return operations

    def repetitions(*, later: bool) -> list[list[Operation]]:
        if times == 1:
            return [repetition(follows=False, ends=True, later=later)]
        middle = repetition(follows=True, ends=False, later=later) if times > 2 else []
        first, last = (repetition(follows=not at, ends=not at, later=later) for at in (True, False))
        return [first, *[middle] * (times - 2), last]

    played = repetitions(later=False)
    return _Track(played, played if all(whole.values()) else repetitions(later=True), list(handed.values()))


def _operations(nbytes: int, count: int, pieces: Pieces, free: int, requests: Mapping[int, Request]) -> list[Operation]:
    if abs(count) > 1 and rounded(nbytes) * abs(count) <= LUMP:
        nbytes, count = rounded(nbytes) * abs(count), 1 if count > 0 else -1
    if not nbytes:
        return []
    one: Operation = (*requests[nbytes], pieces) if count > 0 else (free, 0, 0, pieces)
    return [one] * abs(count)

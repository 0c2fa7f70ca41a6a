from __future__ import annotations

from vramlint.api.world import world_of
from vramlint.facts import Candidate, Fact, Origin
from vramlint.resolve.context import Context
from vramlint.text import Place, Span
from vramlint.values import Entry, Scalar, Unknown

PLACE = Place("job.yaml", Span(7, 3, 7, 9))


def fact(name: str, value: str | int | None) -> Fact:
    if value is None:
        return Fact(name, (), Origin.UNKNOWN, reason="counted on the machine")
    return Fact(name, (Candidate(value, PLACE),), Origin.WRITTEN, name)


def test_a_declared_gpu_stands_in_for_the_command_line() -> None:
    world = world_of(Context(), (fact("gpu", "h100"), fact("world_size", 4), fact("launcher", "torchrun")))
    assert world.gpu is not None
    assert world.gpu.id.startswith("h100")
    assert (world.gpu_origin, world.world_size, world.launched) == ("job.yaml:7", 4, True)


def test_the_users_own_world_wins() -> None:
    world = world_of(Context(world_size=2), (fact("world_size", 8),))
    assert world.world_size == 2


def test_an_ambiguous_gpu_is_none() -> None:
    assert world_of(Context(), (fact("gpu", "no such device"),)).gpu is None


def test_unknown_variables_are_no_answers() -> None:
    entries = (Entry("A", None, Scalar("1")), Entry("B", None, Unknown("counted")))
    assert world_of(Context(), (), entries).environment == {"A": "1"}

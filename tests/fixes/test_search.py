"""The search against all plans there are."""

import pytest
from msgspec.structs import replace

from tests.fixes.test_plan import card, job
from tests.fixes.test_plan import simulate as sized
from vramlint.estimate import BEYOND, Estimate, Work
from vramlint.fixes.axes import GPUS, LORA, NUMERICS, QLORA, TRAINED, axes_of, find_option, needs, option_names
from vramlint.fixes.costs import by_edits, by_result, by_time
from vramlint.fixes.search import Point, Search
from vramlint.fixes.ways import nearest, ways
from vramlint.job import Evaluation, Job, Parallelism, Zero

GIB = 2**30
LOOKED_AT = frozenset({"zero", "adapters", "weights", "checkpointing", "micro-batch", "optimizer", "evaluation-batch"})
PARAMETERS = 10**9


def simulate(subject: Job) -> Estimate:
    """The toy of the other tests, with the work of its step."""
    tokens = subject.batch.micro_batch_size * subject.batch.sequence_length
    again = 2 if subject.checkpointing.mode != "none" else 0
    parts = (("forward", 2), ("backward", 2 if subject.adapter else 4), ("recomputed", again))
    dtype = "bfloat16"
    work = tuple(Work(part, "linear", dtype, True, times * PARAMETERS * tokens) for part, times in parts if times)
    return replace(sized(subject), work=work, total_parameters=PARAMETERS, trainable_parameters=PARAMETERS)


def search(subject: Job, gib: float, *allowed: str) -> Search:
    axes = tuple(axis for axis in axes_of(subject, allowed) if axis.name in LOOKED_AT)
    return Search(subject, card(gib), axes, simulate, int(gib * GIB))


def every(found: Search) -> list[Point]:
    """All plans of which all changes apply."""
    points: list[Point] = [()]
    rest = (0,) * len(found.axes)
    for index, axis in enumerate(found.axes, start=1):
        longer = [(*point, value) for point in points for value in range(len(axis.options) + 1)]
        points = [point for point in longer if found.job((*point, *rest[index:])) is not None]
    return points


@pytest.mark.parametrize("subject", [job(), job(world_size=4), replace(job(), evaluation=Evaluation(8))])
def test_the_first_plan_is_the_best_of_all(subject: Job) -> None:
    whole = search(subject, 0, LORA)
    sizes = {point: simulate(made).device_high for point in every(whole) if (made := whole.job(point)) is not None}
    for gib in (8, 20, 33, 55):
        fitting = [point for point, size in sizes.items() if size <= gib * GIB]
        for order in (by_result, by_time, by_edits):
            found = search(subject, gib, LORA)
            best = next(found.best(order))
            assert order(found.cost(best)) == min(order(whole.cost(point)) for point in fitting)
            assert len(found.simulated) < len(sizes) / 2


@pytest.mark.parametrize("subject", [job(), job(world_size=4), replace(job(), evaluation=Evaluation(8))])
@pytest.mark.parametrize("allowed", [(), (LORA,), (LORA, QLORA)])
def test_one_of_the_farthest_plans_fits_where_any_does(subject: Job, allowed: tuple[str, ...]) -> None:
    whole = search(subject, 0, *allowed)
    least = min(simulate(made).device_high for point in every(whole) if (made := whole.job(point)) is not None)
    assert min(simulate(whole.job(point) or subject).device_high for point in whole.farthest()) == least


def test_the_farthest_plans_with_a_value_of_an_axis() -> None:
    found = search(job(), 0, LORA)
    index = next(index for index, axis in enumerate(found.axes) if axis.name == "micro-batch")
    assert {point[index] for point in found.farthest({"micro-batch": 1})} == {1}


def test_accumulation_may_need_more_than_a_smaller_micro_batch_saves() -> None:
    def accumulated(subject: Job) -> Estimate:
        found = simulate(subject)
        kept = 40 * GIB if subject.batch.gradient_accumulation_steps > 1 else 0
        return replace(found, allocated=found.allocated + kept, reserved=found.reserved + kept)

    subject = job()
    assert subject.batch.gradient_accumulation_steps == 1
    axes = tuple(axis for axis in axes_of(subject, ()) if axis.name in {"micro-batch", "checkpointing"})
    found = Search(subject, card(80), axes, accumulated, 80 * GIB)
    sizes = {point: accumulated(made).device_high for point in every(found) if (made := found.job(point)) is not None}
    alone = sizes[tuple(int(axis.name == "checkpointing") for axis in axes)]
    assert alone < min(size for point, size in sizes.items() if point[[a.name for a in axes].index("micro-batch")])
    found = Search(subject, card(80), axes, accumulated, alone)
    assert [option.move.name for option in found.options(next(found.best(by_result)))] == ["activation-checkpointing"]


def test_what_is_trained_changes_only_where_it_is_allowed() -> None:
    assert next(search(job(), 9).best(by_result), None) is None
    found = search(job(), 9, LORA, QLORA)
    point = next(found.best(by_result))
    assert [option.move.name for option in found.options(point) if option.alters == TRAINED] == ["lora"]
    assert next(found.best(by_result, most_altered=NUMERICS), None) is None


def test_the_plans_that_are_shown_are_each_better_in_something() -> None:
    found = search(job(), 26)
    shown = ways(found, lambda point: (simulate(found.job(point) or found.start).device_high, point))
    assert len({way.point for way in shown}) == len(shown) > 1
    for index, way in enumerate(shown):
        for before in shown[:index]:
            assert (
                way.cost.depth < before.cost.depth
                or way.cost.slower < before.cost.slower
                or way.cost.edits < before.cost.edits
                or way.peak < before.peak
            )


def test_what_a_plan_fits_without_is_left_out() -> None:
    found = search(job(), 50)
    best = next(found.best(by_result))
    names = [axis.name for axis in found.axes]
    more = list(best)
    more[names.index("optimizer")] = 2
    assert found.fits(tuple(more))
    assert found.trimmed(tuple(more)) == found.trimmed(best) == best


def test_a_plan_that_turns_out_not_to_fit_is_passed_over() -> None:
    found = search(job(), 50)
    first = next(found.best(by_result))
    shown = ways(found, lambda point: None if point == first else (0, point))
    assert shown
    assert first not in {way.point for way in shown}


def test_where_nothing_fits_the_nearest_is_the_one_that_needs_least() -> None:
    found = search(job(), 1)
    assert ways(found, lambda point: (0, point)) == ()
    point = nearest(found)
    assert point is not None
    assert simulate(found.job(point) or found.start).device_high == min(
        simulate(made).device_high for each in every(found) if (made := found.job(each)) is not None
    )


def limited(subject: Job, limit: int) -> Estimate:
    """The toy, that gives up nine tenths of what needs more."""
    whole = simulate(subject)
    if whole.device_high <= limit or whole.device_high % 10 == 0:
        return whole
    bound = max(limit + 1, whole.device_high // 2)
    return replace(whole, method=BEYOND, allocated=bound, reserved=bound, work=())


@pytest.mark.parametrize("subject", [job(), job(world_size=4), replace(job(), evaluation=Evaluation(8))])
@pytest.mark.parametrize("gib", [1, 9, 20, 33, 55])
def test_the_plans_are_the_same_where_what_exceeds_is_given_up(subject: Job, gib: float) -> None:
    whole, given_up = search(subject, gib, LORA), search(subject, gib, LORA)
    given_up.within = limited
    asked: list[Job] = []

    def counted(subject: Job) -> Estimate:
        asked.append(subject)
        return simulate(subject)

    given_up.simulate = counted
    for order in (by_result, by_time, by_edits):
        assert list(given_up.best(order)) == list(whole.best(order))
    assert len(given_up.simulated) < len(whole.simulated)
    assert list(given_up.looked_at) == list(whole.looked_at)
    assert given_up.spent == whole.spent
    accepted = [ways(found, lambda point: (0, point)) for found in (whole, given_up)]
    assert accepted[0] == accepted[1]
    assert [*filter(given_up.fits, given_up.farthest())] == [*filter(whole.fits, whole.farthest())]
    count = len(asked)
    assert nearest(given_up) == nearest(whole)
    assert len(asked) - count < len(whole.simulated)


def test_a_box_is_opened_where_a_lesser_plan_fits() -> None:
    found, alone = search(job(4), 24, LORA), search(job(4), 24, LORA)
    best = next(found.best(by_result))
    before = set(found.simulated)
    assert next(found.best(by_edits)) == next(alone.best(by_edits))
    assert len(found.simulated.keys() - before) < len(alone.simulated)
    opened = [point for point, known in found.looked_at.items() if known == 0]
    assert opened
    assert all(found.fits(point) for point in (best, *opened))


@pytest.mark.parametrize(
    ("axis", "fitting", "value", "expected"),
    [
        ("weights", 0, 1, True),
        ("weights", 1, 0, False),
        ("offload-optimizer", 0, 1, False),
        ("gpus", 1, 2, False),
        ("optimizer", 2, 3, True),
        ("zero", 1, 3, False),
        ("adapters", 0, 1, False),
        ("micro-batch", 0, 1, False),
        ("micro-batch", 1, 2, True),
    ],
)
def test_a_plan_is_the_lesser_one_on_axes_in_their_order(
    axis: str, fitting: int, value: int, *, expected: bool
) -> None:
    subject = job(4)
    if axis in ("offload-optimizer", "gpus"):
        subject = replace(subject, parallelism=Parallelism(4, "deepspeed", Zero(2)))
    found = Search(subject, card(80), axes_of(subject, (LORA, GPUS)), simulate, 80 * GIB)
    index = [each.name for each in found.axes].index(axis)
    points = [(*(0,) * index, each, *(0,) * (len(found.axes) - index - 1)) for each in (fitting, value)]
    assert not found._leads_on(points[1])
    assert found.fits(points[0])
    assert found._leads_on(points[1]) is expected
    found.limit = 1
    assert not found._leads_on(points[1])


def test_a_plan_is_known_not_to_fit_where_one_that_saves_more_does_not() -> None:
    asked: list[Job] = []

    def within(subject: Job, limit: int) -> Estimate:
        asked.append(subject)
        return limited(subject, limit)

    found = search(job(), 1)
    found.within = within
    index = [axis.name for axis in found.axes].index("optimizer")
    first, last = ((*found.origin[:index], value, *found.origin[index + 1 :]) for value in (2, 3))
    assert not found.fits(first)
    assert not found.fits(last)
    assert asked == [found.job(first), found.job(last)]
    assert not found.fits(found.origin)
    assert len(asked) == 2
    assert found.looked_at[found.origin] == found.looked_at[first]


def test_what_was_given_up_is_looked_at_again_where_there_is_more_room() -> None:
    found = search(job(), 1)
    found.within = limited
    assert next(found.best(by_result), None) is None
    found.limit = 50 * GIB
    assert next(found.best(by_result)) == next(search(job(), 50).best(by_result))


def test_what_was_given_up_counts_as_simulated() -> None:
    whole, found = search(job(4), 20), search(job(4), 20)
    found.within, found.most, whole.most = limited, 8, 8
    assert list(found.best(by_result)) == list(whole.best(by_result)) == []
    assert list(found.looked_at) == list(whole.looked_at)
    assert len(found.simulated) < len(found.looked_at) == 8


def test_the_order_of_plans_is_learned_from_a_step_with_checkpoints() -> None:
    found = search(job(), 1)
    found.within = limited
    found.cost(found.origin)
    corner = next(found.farthest())
    assert (found.job(corner) or job()).checkpointing.mode != "none"
    assert not found.fits(corner)
    assert corner in found.simulated


def test_it_ends_when_enough_was_simulated() -> None:
    found = search(job(), 20)
    found.most = 3
    assert list(found.best(by_result)) == []
    assert len(found.simulated) == 3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("8bit-adam", "8bit-optimizer"),
        ("checkpointing", "activation-checkpointing"),
        ("micro-batch", "micro-batch-1"),
        ("seq-len", "sequence-length-256"),
        ("lora", "lora"),
        ("fsdp", "fsdp"),
        ("all-gpus", "all-gpus"),
    ],
)
def test_changes_have_names(name: str, change: str) -> None:
    option = find_option(name, axes_of(job(), ("lora", "seq-len"), 4))
    assert option is not None
    assert option.move.name == change
    assert name in option_names()
    assert needs(change)


def test_where_the_allocator_turns_down_what_is_left_of_plans_they_are_tried_whole() -> None:
    refused: list[Point] = []

    def accept(point: Point) -> tuple[int, Point] | None:
        refused.append(point)
        return None if point == refused[0] else (0, point)

    found = search(job(), 22)
    shown = [way.point for way in ways(found, accept)]
    assert len(shown) == 2
    assert all(found.fits(point) and found.trimmed(point) in (refused[0], point) for point in shown)


def test_more_gpus_are_looked_at_with_the_most_of_them_first() -> None:
    axes = tuple(axis for axis in axes_of(job(4), (GPUS,)) if axis.name in ("gpus", "zero", "micro-batch"))
    found = Search(job(4), card(16), axes, simulate, 16 * GIB)
    point = next(found.best(by_result))
    names = [option.move.name for option in found.options(point)]
    assert any(name.startswith("gpus-x") for name in names)
    every_size = [each for each in every(found) if found.fits(each)]
    assert by_result(found.cost(point)) == min(by_result(found.cost(each)) for each in every_size)

"""Plans of one job: what their edits have to do before they are offered."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from tests.engine.builders import GIB, place, run
from tests.fixes.test_plan import card
from tests.fixes.test_plan import job as subject_of
from tests.fixes.test_search import simulate as sized
from vramlint.api.fitting import _played as played_jobs
from vramlint.api.fitting import _worst_again as worst_again
from vramlint.api.planning import Planning
from vramlint.estimate import Estimate
from vramlint.fixes.changes import Changes
from vramlint.job import Job, Zero
from vramlint.plans import Fitting
from vramlint.text import Document, Edit

DOCUMENTS = {"train.py": Document.of("train.py", "batch = 8\n")}
BATCH = Edit(place(1, 9, 1), "4")


def simulate(job: Job, *, reserved: bool = True, log: bool = False, limit: int | None = None) -> Estimate:
    """The toy of the plans' tests."""
    return sized(job)


def write(changes: Changes) -> tuple[str, tuple[Edit, ...]] | None:
    """Only the micro batch has a place."""
    return ("batch = 4", (BATCH,)) if "micro_batch_size" in changes else None


def fitting(peak: float | None, jobs: int = 1, gib: float = 50) -> Fitting:
    """The plans of a job whose edited files need `peak` GiB."""
    subject = subject_of()

    def read_again(edited: Mapping[str, Document], most: int) -> Estimate | None:
        assert most >= int(0.98 * gib * GIB)
        assert edited["train.py"].text == "batch = 4\n"
        return None if peak is None else replace(sized(subject), allocated=int(peak * GIB), reserved=int(peak * GIB))

    planning = Planning(
        run(jobs=(subject,) * jobs), subject, card(gib), simulate, write, read_again, int(0.98 * gib * GIB), DOCUMENTS,
        frozenset(), frozenset(), most=4,
    )  # fmt: skip
    return planning.fitting()


def test_edits_that_do_what_the_plan_says_are_offered() -> None:
    first = fitting(48).plans[0]
    assert (first.complete, first.edits, first.peak, first.reread) == (True, (BATCH,), 48 * GIB, 48 * GIB)


def test_edits_that_do_not_are_left_to_the_user() -> None:
    for peak in (70, 30, None):
        first = fitting(peak).plans[0]
        assert [change.by_hand for change in first.changes] == [True]
        assert (first.edits, first.reread, first.peak) == ((), None, 48 * GIB)


def test_where_a_run_may_be_several_jobs_the_edited_files_decide() -> None:
    assert fitting(47, jobs=2).plans[0].peak == 47 * GIB
    above = fitting(49.5, jobs=2).plans[0]
    assert (above.complete, above.peak) == (False, 48 * GIB)


def test_what_no_file_says_is_left_to_the_user() -> None:
    found = fitting(48, gib=31)
    assert found.status == "plans"
    by_hand = {change.name: change.by_hand for plan in found.plans for change in plan.changes}
    assert by_hand["activation-checkpointing"]


def test_edits_of_a_part_of_a_plan_are_held_against_its_tensors() -> None:
    subject = subject_of()
    part = replace(subject, batch=replace(subject.batch, micro_batch_size=1, gradient_accumulation_steps=8))
    played: list[Job] = []

    def noted(job: Job, *, reserved: bool = True, log: bool = False, limit: int | None = None) -> Estimate:
        played.extend([job] if reserved else [])
        return sized(job)

    def read_again(edited: Mapping[str, Document], most: int) -> Estimate:
        return replace(sized(part), blocks=2 * sized(part).allocated)

    planning = Planning(
        run(jobs=(subject,)), subject, card(26), noted, write, read_again, 26 * GIB, DOCUMENTS, frozenset(),
        frozenset(), most=1,
    )  # fmt: skip
    first = planning.fitting().plans[0]
    assert [change.by_hand for change in first.changes] == [True, False]
    assert first.reread == 2 * sized(part).allocated
    assert part not in played


def test_no_plan_leaves_headroom_but_one_just_fits() -> None:
    assert fitting(48, gib=48.5).status in ("plans", "tight")
    assert fitting(48, gib=100).status == "fits"
    assert fitting(48, gib=1).status == "nothing"


@pytest.mark.parametrize(("fragmented", "gpus", "played"), [(1.0, 4, [32, 4]), (1.2, 8, [32, 4, 8])])
def test_the_fewest_gpus_that_will_do_are_looked_for_by_tensors_first(
    fragmented: float, gpus: int, played: list[int]
) -> None:
    seen: list[int] = []

    def with_segments(job: Job, *, reserved: bool = True, log: bool = False, limit: int | None = None) -> Estimate:
        found = sized(job)
        if not reserved:
            return found
        seen.append(job.parallelism.world_size)
        return replace(found, blocks=int(fragmented * found.allocated))

    subject = subject_of(2)
    subject = replace(subject, parallelism=replace(subject.parallelism, strategy="deepspeed", zero=Zero(3)))
    planning = Planning(
        run(jobs=(subject,)), subject, card(7), with_segments, lambda _: None, lambda *_: None, 7 * GIB,
        DOCUMENTS, frozenset(), frozenset(), most=4,
    )  # fmt: skip
    found = planning.fitting()
    assert (found.status, found.allowed_gpus) == ("nothing", gpus)
    assert [size for size in seen if size > 2] == played


@pytest.mark.parametrize(("most", "played"), [(None, [2]), (36, [2]), (33, []), (5, [])])
def test_files_that_need_too_much_are_not_played(most: int | None, played: list[int]) -> None:
    """The least that one of several jobs needs is enough to turn down what was edited."""
    jobs = [replace(subject_of(), batch=replace(subject_of().batch, micro_batch_size=rows)) for rows in (1, 2)]
    needs = [sized(job).device_need for job in jobs]
    assert needs == [30 * GIB, 36 * GIB]
    seen: list[int] = []

    def noted(job: Job, *, reserved: bool = True, log: bool = False, limit: int | None = None) -> Estimate:
        seen.extend([job.batch.micro_batch_size] if reserved else [])
        assert limit == (None if most is None or reserved else most * GIB)
        return sized(job)

    found = played_jobs(jobs, noted, None if most is None else most * GIB)
    assert seen == played
    assert max(each.device_need for each in found) > (most or 0) * GIB or len(found) == len(jobs)


def test_jobs_that_edits_leave_as_they_were_are_looked_at_first() -> None:
    jobs = [replace(subject_of(), batch=replace(subject_of().batch, micro_batch_size=rows)) for rows in (1, 2)]
    seen: list[Job] = []

    def noted(job: Job, *, reserved: bool = True, log: bool = False, limit: int | None = None) -> Estimate:
        seen.append(job)
        return sized(job)

    found = worst_again(jobs, jobs[1:], noted, 33 * GIB)
    assert seen == jobs[1:]
    assert found == sized(jobs[1])

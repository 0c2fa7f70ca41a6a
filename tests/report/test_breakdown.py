"""What is said of the ranks of a run."""

from __future__ import annotations

from vramlint.estimate import Estimate, RankPeak
from vramlint.report.breakdown import worst_rank


def _estimate(*ranks: RankPeak) -> Estimate:
    return Estimate("simulated", 9, 9, 0, "backward", (), (), ranks=ranks)


def test_the_kind_of_rank_that_needs_the_most_is_named_with_what_it_holds() -> None:
    first = RankPeak("stage 0 of 2", 4, 9, 9, "6 layers, 2 forwards in flight, embedding")
    last = RankPeak("stage 1 of 2", 4, 7, 7)
    text = "stage 0 of 2 needs the most of 2 kinds of rank: 6 layers, 2 forwards in flight, embedding"
    assert worst_rank(_estimate(first, last)) == text


def test_where_all_ranks_are_alike_nothing_is_said() -> None:
    assert worst_rank(_estimate()) == ""

"""Every layer is traced or stands behind one of its own kind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vramlint.memory.repetition import SINGLE_LAYERS, Stretch, stretches


def test_equal_layers_are_traced_at_both_ends_and_once_in_the_middle():
    assert stretches([None] * 32) == [Stretch(0, 1, 1), Stretch(1, 1, 1), Stretch(2, 1, 29), Stretch(31, 1, 1)]
    assert stretches([None] * SINGLE_LAYERS) == [Stretch(at, 1, 1) for at in range(SINGLE_LAYERS)]
    assert stretches([]) == []


def test_alternating_layers_repeat_as_groups():
    windowed = ["window"] * 5 + ["full"]

    assert stretches(windowed * 10) == [Stretch(0, 6, 1), Stretch(6, 6, 1), Stretch(12, 6, 7), Stretch(54, 6, 1)]
    assert stretches(["dense"] + ["sparse"] * 26) == [
        Stretch(0, 1, 1),
        Stretch(1, 1, 1),
        Stretch(2, 1, 1),
        Stretch(3, 1, 23),
        Stretch(26, 1, 1),
    ]


@given(st.lists(st.sampled_from("ab"), max_size=40))
def test_every_layer_is_covered_by_its_own_kind(kinds: list[str]):
    covered = []
    for start, length, times in stretches(kinds):
        covered += kinds[start : start + length] * times

    assert covered == kinds

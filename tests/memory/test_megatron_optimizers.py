"""What Megatron's optimizers keep for a weight, on the device and on the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramlint.job import Libraries, Megatron, Optimizer, PreciseAdam
from vramlint.memory import megatron_optimizers
from vramlint.memory.tensor import Parameter
from vramlint.memory.updates import update_for

UPDATE = update_for(Optimizer("adamw_apex_fused"), Libraries())


def _share(elements: int = 1000, times: int = 1) -> Parameter:
    return Parameter("weight", (elements,), "float32", trainable=True, multiplicity=times)


@pytest.mark.parametrize(
    ("adam", "states", "passing"),
    [
        (PreciseAdam(), (4000, 4000, 2000), 0),
        (PreciseAdam(average="bfloat16", variance="bfloat16"), (2000, 2000, 2000, 4, 4), 0),
        (PreciseAdam(average="bfloat16"), (2000, 4000, 2000, 4), 4000),
        (PreciseAdam(average="float8", variance="float8"), (1000, 1000, 2000, 4, 4), 8000),
        (PreciseAdam(master="float16"), (4000, 4000, 2000, 4), 4000),
        (PreciseAdam(remainders=False), (4000, 4000, 4000), 0),
    ],
)
def test_the_precision_aware_optimizer_keeps_narrow_states(adam: PreciseAdam, states: tuple[int, ...], passing: int):
    own = megatron_optimizers.owned(Megatron(precise=adam), "bfloat16", _share(), UPDATE)

    assert own == megatron_optimizers.Owned(0, states, 0, passing)


def test_float16_weights_have_whole_master_weights():
    own = megatron_optimizers.owned(Megatron(precise=PreciseAdam()), "float16", _share(), UPDATE)

    assert own.states == (4000, 4000, 4000)


def test_the_plain_optimizer_widens_narrow_gradients():
    own = megatron_optimizers.owned(Megatron(wide_gradients=False), "bfloat16", _share(), UPDATE)

    assert (own.master, own.states, own.gradient) == (4000, (4000, 4000), 4000)


def test_what_the_host_updates_leaves_the_device():
    own = megatron_optimizers.offloaded(Megatron(), _share(), UPDATE)

    assert own == megatron_optimizers.Owned(host=16000)


@pytest.mark.parametrize(
    ("parts", "fraction", "there"),
    [
        (1, 1.0, [(1, 300, True), (0, 100, True), (0, 100, True), (0, 100, True)]),
        (1, 0.5, [(1, 300, True), (0, 100, False), (0, 100, False), (0, 100, False)]),
        (1, 0.6, [(1, 300, True), (0, 100, True), (0, 100, False), (0, 100, False)]),
        (1, 0.0, [(1, 300, False), (0, 100, False), (0, 100, False), (0, 100, False)]),
    ],
)
def test_the_host_has_weights_from_the_last_on(parts: int, fraction: float, there: list[tuple[int, int, bool]]):
    (pieces,) = megatron_optimizers.slices(_weights(), parts, fraction)

    assert pieces == there


def test_every_rank_cuts_its_slice_where_a_weight_or_the_slice_ends():
    first, second, third, fourth = megatron_optimizers.slices(_weights(), 4, 0.5)

    assert first == [(1, 150, True)]
    assert second == [(1, 150, True)]
    assert third == [(0, 100, True), (0, 50, False)]
    assert fourth == [(0, 50, True), (0, 100, True)]
    assert [megatron_optimizers.kept(pieces) for pieces in (first, third)] == [0, 50]
    assert [megatron_optimizers.hosted(pieces) for pieces in (first, third)] == [150, 100]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(1, 40), st.floats(0, 1))
def test_slices_have_every_element_once(sizes: list[int], parts: int, fraction: float):
    weights = [_share(size) for size in sizes]
    pieces = megatron_optimizers.slices(weights, parts, fraction)

    assert len(pieces) == parts
    for position, size in enumerate(sizes):
        assert sum(p.elements for own in pieces for p in own if p.position == position) == size
    for own in pieces:
        assert megatron_optimizers.hosted(own) >= fraction * sum(p.elements for p in own) - 1e-6


def _weights() -> list[Parameter]:
    weights = [_share(100, 3), _share(300)]
    weights[0].layer = (0, 0)
    return weights

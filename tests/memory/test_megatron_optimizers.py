"""What Megatron's optimizers keep for a weight, on the device and on the host."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(("fraction", "there"), [(1.0, [3, 1]), (0.5, [0, 1]), (0.6, [1, 1]), (0.0, [0, 0])])
def test_the_host_has_weights_from_the_last_on(fraction: float, there: list[int]):
    shares = [_share(100, 3), _share(300)]
    shares[0].layer = (0, 0)

    assert megatron_optimizers.on_host(shares, fraction) == there

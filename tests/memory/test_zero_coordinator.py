"""What ZeRO 3 gathers is worked out once for runs that gather the same."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vramlint.job import Zero
from vramlint.memory import zero_coordinator
from vramlint.memory.tensor import Parameter
from vramlint.memory.zero_coordinator import gathered_bytes
from vramlint.memory.zero_wire import Wire

WIRE = Wire(4, 2)
ZERO = Zero(3)


def model(*, trainable: bool = True) -> list[Parameter]:
    embedding = Parameter("embed.weight", (512, 64), "bfloat16", trainable=trainable, multiplicity=1)
    embedding.embedding = True
    inside = [
        Parameter(f"layers.0.{name}.weight", (64, 64), "bfloat16", trainable=trainable, multiplicity=3)
        for name in ("self_attn.q_proj", "mlp.up_proj")
    ]
    for parameter in inside:
        parameter.layer = parameter.stretch = (0, 3)
    head = Parameter("lm_head.weight", (512, 64), "bfloat16", trainable=trainable, multiplicity=1)
    return [embedding, *inside, head]


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    zero_coordinator._kept.clear()


def test_equal_models_are_gathered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = model(), model()
    before = gathered_bytes(first, ZERO, WIRE, recomputes=True, leaves=False)
    monkeypatch.setattr(zero_coordinator, "Coordinator", None)  # nothing is worked out again
    after = gathered_bytes(second, ZERO, WIRE, recomputes=True, leaves=False)
    assert (after.whole, after.second) == (before.whole, before.second)
    assert before.beside
    assert after.beside.keys() <= {id(parameter) for parameter in second}
    assert [after.beside.get(id(p)) for p in second] == [before.beside.get(id(p)) for p in first]


@pytest.mark.parametrize(
    ("zero", "wire", "recomputes", "trainable"),
    [
        (replace(ZERO, prefetch_bucket_size=1), WIRE, True, True),
        (ZERO, replace(WIRE, world=3), True, True),
        (ZERO, WIRE, False, True),
        (ZERO, WIRE, False, False),
    ],
)
def test_what_differs_is_worked_out(zero: Zero, wire: Wire, *, recomputes: bool, trainable: bool) -> None:
    gathered_bytes(model(), ZERO, WIRE, recomputes=True, leaves=False)
    found = gathered_bytes(model(trainable=trainable), zero, wire, recomputes=recomputes, leaves=False)
    zero_coordinator._kept.clear()
    alone = gathered_bytes(model(trainable=trainable), zero, wire, recomputes=recomputes, leaves=False)
    assert (found.whole, found.second) == (alone.whole, alone.second)


@pytest.mark.parametrize(
    ("zero", "wire"),
    [
        (replace(ZERO, offload_optimizer="cpu", reduce_bucket_size=1), WIRE),
        (ZERO, replace(WIRE, world=64)),
    ],
)
def test_what_does_not_decide_is_not_worked_out_again(zero: Zero, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    zero = replace(zero, parameter_persistence_threshold=1000)
    alone = gathered_bytes(model(), zero, wire, recomputes=True, leaves=False)
    zero_coordinator._kept.clear()
    gathered_bytes(model(), replace(ZERO, parameter_persistence_threshold=1000), WIRE, recomputes=True, leaves=False)
    monkeypatch.setattr(zero_coordinator, "Coordinator", None)
    found = gathered_bytes(model(), zero, wire, recomputes=True, leaves=False)
    assert (found.whole, found.second) == (alone.whole, alone.second)
    assert found.whole


@pytest.mark.parametrize(("packed", "world"), [(frozenset(), 3), (frozenset(range(8)), 64)])
def test_among_other_ranks_parts_are_padded_otherwise(packed: frozenset[int], world: int) -> None:
    zero, wire = replace(ZERO, parameter_persistence_threshold=1000), replace(WIRE, packed=packed)
    even = gathered_bytes(model(), zero, wire, recomputes=True, leaves=False)
    other = gathered_bytes(model(), zero, replace(wire, world=world), recomputes=True, leaves=False)
    assert other.whole != even.whole


def test_few_are_kept() -> None:
    for world in range(2, 40):
        gathered_bytes(model(), replace(ZERO, max_reuse_distance=world), WIRE, recomputes=True, leaves=False)
    assert len(zero_coordinator._kept) == zero_coordinator.MOST_KEPT

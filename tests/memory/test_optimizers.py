"""States and temporaries of the optimizers."""

from __future__ import annotations

import pytest

from vramlint.job import Optimizer
from vramlint.memory.optimizers import host_states, rule_for, shared_states, states, temporaries
from vramlint.memory.tensor import Parameter


def weight(elements: int = 10_000, dtype: str = "bfloat16", multiplicity: int = 1) -> Parameter:
    return Parameter("w", (elements // 100, 100), dtype, trainable=True, multiplicity=multiplicity)


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("adamw_torch", "float32", [40_000, 40_000]),
        ("adamw_torch", "bfloat16", [20_000, 20_000]),
        ("adamw_torch_fused", "bfloat16", [4, 20_000, 20_000]),
        ("adamw_bnb_8bit", "bfloat16", [10_000, 160, 10_000, 160]),
        ("paged_adamw_32bit", "bfloat16", [40_000, 40_000]),
        ("lion_8bit", "float32", [10_000, 160]),
        ("sgd", "float32", []),
        ("adafactor", "float32", [400, 400, 4]),
    ],
)
def test_states_of_a_matrix(name, dtype, expected):
    rule = rule_for(Optimizer(name))

    assert rule is not None
    assert states(rule, weight(dtype=dtype)) == expected


def test_momentum_is_one_state():
    rule = rule_for(Optimizer("sgd", momentum=0.9))

    assert rule is not None
    assert states(rule, weight()) == [20_000]


def test_paged_states_of_large_tensors_leave_the_allocator():
    rule = rule_for(Optimizer("paged_adamw_8bit"))

    assert rule is not None
    assert states(rule, weight(200_000)) == [3128, 3128]


def test_small_tensors_of_8_bit_optimizers_stay_in_32_bit():
    rule = rule_for(Optimizer("adamw_bnb_8bit"))

    assert rule is not None
    assert states(rule, weight(1000)) == [4000, 4000]
    assert shared_states(rule, [weight(1000)]) == []
    assert shared_states(rule, [weight()]) == [1024, 1024]


def test_foreach_holds_a_copy_of_the_largest_group_and_dtype():
    rule = rule_for(Optimizer("adamw_torch"))
    groups = [[weight(), weight(20_000, "float32", 3)], [weight(100)]]

    assert rule is not None
    assert temporaries(rule, groups) == [(80_000, 3)]


def test_unknown_optimizers_have_no_rule():
    assert rule_for(Optimizer("my_optimizer")) is None


def test_the_trainer_keeps_wide_states_for_embeddings():
    rule = rule_for(Optimizer("adamw_bnb_8bit"))
    embedding = weight()
    embedding.embedding = True

    assert rule is not None
    assert states(rule, embedding, wide_embeddings=True) == [40_000, 40_000]
    assert states(rule, embedding) == [10_000, 160, 10_000, 160]


def test_states_on_the_host_are_not_on_the_device():
    rule = rule_for(Optimizer("deepspeed_cpu_adam"))

    assert rule is not None
    assert states(rule, weight()) == []
    assert host_states(rule, weight()) == 80_000


def test_low_rank_optimizers_are_not_simulated():
    assert rule_for(Optimizer("galore_adamw")) is None

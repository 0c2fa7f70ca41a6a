"""gpt-neox's ranks against its own model in DeepSpeed's pipeline engine, counted by `python -m bench.sharding.neox`.

EleutherAI/gpt-neox@ea7aefd with EleutherAI/DeeperSpeed 0.16.5.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vramlint.job import Attention, Batch, Job, Model, NeoX, Objective, Optimizer, Parallelism, Precision, Zero
from vramlint.memory import simulate
from vramlint.memory.neox_ranks import kinds, stage_of
from vramlint.memory.neox_stages import LAYER, balanced, cut, parts_of, uniform
from vramlint.memory.refusal import NotFollowedError

SIZES = {
    "vocab_size": 50304,
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 64,
    "intermediate_size": 4096,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "pos_emb": "rotary",
    "rotary_dim": 16,
}


def job(engine: NeoX, *, steps: int = 4, zero: Zero | None = None, dtype: str = "float16", **sizes: object) -> Job:
    return Job(
        Model("model", "gpt_neox", {"neox": {**SIZES, **sizes}}),  # type: ignore[dict-item]
        precision=Precision("float32", dtype),
        optimizer=Optimizer(weight_decay=0.1),
        batch=Batch(2, 1024, steps),
        attention=Attention("eager"),
        parallelism=Parallelism(4, "deepspeed", zero or Zero(1, reduce_bucket_size=20_000_000), neox=engine, rank=0),
        objective=Objective(loop="plain"),
    )


def peak(run: Job, stage: int) -> int:
    rank = stage_of(run, run.parallelism.neox or NeoX(), stage)
    estimate = simulate(rank, reserved=False, observed=True)
    assert estimate.method == "simulated"
    phases = {phase.phase: phase.allocated for phase in estimate.phases}
    return max(phases[name] for name in ("forward", "backward", "optimizer"))


COUNTED = [(NeoX(pipeline=2), 0, 1_505_714_176), (NeoX(pipeline=2), 1, 1_937_693_696)]
"""A run, a stage, and the bytes of its steady step's peak."""
GPT_J = 2_871_490_048
"""The same of a single stage with `gpt_j_residual`, BF16_Optimizer and no ZeRO."""


def test_a_parallel_residual_without_zero() -> None:
    zero = Zero(0, gradient_accumulation_dtype="float32")
    run = job(NeoX(), zero=zero, dtype="bfloat16", gpt_j_residual=True)
    assert peak(run, 0) == pytest.approx(GPT_J, rel=0.02)


@pytest.mark.parametrize(("engine", "stage", "counted"), COUNTED)
def test_a_stage_holds_what_the_real_engine_held(engine: NeoX, stage: int, counted: int) -> None:
    assert peak(job(engine), stage) == pytest.approx(counted, rel=0.02)


def test_the_first_stage_has_the_most_forwards_in_flight_and_the_last_the_logits() -> None:
    found = list(kinds(job(NeoX(pipeline=4), steps=8, num_hidden_layers=8)))

    assert [kind.holds for kind in found] == [
        "2 layers, 4 forwards in flight, embedding",
        "3 layers, 3 forwards in flight",
        "2 layers, 2 forwards in flight",
        "1 layers, logits and loss",
    ]


def test_the_worst_stage_is_named() -> None:
    estimate = simulate(job(NeoX(pipeline=4), steps=8, num_hidden_layers=8), reserved=False)

    assert estimate.method == "simulated"
    assert len(estimate.ranks) == 4
    assert max(rank.allocated for rank in estimate.ranks) == estimate.allocated


def test_ranks_that_share_matrices_hold_less() -> None:
    assert peak(job(NeoX(tensor=2)), 0) < peak(job(NeoX()), 0)


def test_checkpoints_are_shared_where_they_are_told_to() -> None:
    engine = NeoX(tensor=4, interval=1)
    engines = (replace(engine, partitions_checkpoints=True), engine, NeoX(tensor=4))
    saved = [simulate(job(one, num_hidden_layers=24), reserved=False).saved_activations for one in engines]
    assert saved == sorted(set(saved))


def test_a_tied_embedding_is_on_both_ends() -> None:
    run = job(NeoX(pipeline=2), tie_word_embeddings=True)
    parameters = [simulate(kind.job, reserved=False).total_parameters for kind in kinds(run)]

    assert min(parameters) > 50304 * 1024


def test_partitioning_gradients_goes_with_no_pipeline() -> None:
    with pytest.raises(NotFollowedError, match="stage 2"):
        list(kinds(job(NeoX(pipeline=2), zero=Zero(2))))


def test_bf16_accumulates_in_float32() -> None:
    wide = Zero(1, gradient_accumulation_dtype="float32")
    assert peak(job(NeoX(), zero=wide, dtype="bfloat16"), 0) > peak(job(NeoX(), dtype="bfloat16"), 0)


def test_the_functions_around_the_layers_count_where_names_do() -> None:
    parts = parts_of(8, tied=False)
    stages = cut(parts, [0] * len(parts), 4, "type:transformer|mlp")

    assert [stage.count(LAYER) for stage in stages] == [2, 3, 2, 1]
    assert sum(map(len, stages)) == len(parts)


def test_equal_numbers_of_parts() -> None:
    assert uniform(10, 4) == [0, 3, 6, 8, 10]
    assert uniform(2, 4) == [0, 1, 2, 2, 2]


def test_balanced_parts_have_the_least_difference() -> None:
    bounds = balanced((10, 1, 1, 1, 1, 10), 3)

    assert bounds == [0, 1, 5, 6]


@pytest.mark.parametrize("method", ["profile", "type:nothing", "type:("])
def test_methods_that_deepspeed_has_not(method: str) -> None:
    parts = parts_of(4, tied=True)
    with pytest.raises(NotFollowedError):
        cut(parts, [1] * len(parts), 2, method)

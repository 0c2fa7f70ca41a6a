"""FSDP unit by unit, and ZeRO-3's sub-groups. The expected bytes are counted from shapes by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from tests.memory.runs import LLAMA, llama
from vramlint.estimate import Estimate
from vramlint.job import (
    Adapter,
    Batch,
    Checkpointing,
    Job,
    Libraries,
    Objective,
    Optimizer,
    Parallelism,
    Precision,
    Quantization,
    Zero,
)
from vramlint.memory import simulate

WORLD = 2
HIDDEN, INTERMEDIATE, LAYERS = LLAMA["hidden_size"], LLAMA["intermediate_size"], LLAMA["num_hidden_layers"]
VOCABULARY = LLAMA["vocab_size"] * HIDDEN
ROOT = 2 * VOCABULARY + HIDDEN
"""Parameters outside the layers: embedding, final norm, head."""
LAYER = HIDDEN * (HIDDEN * 3 + INTERMEDIATE * 3) + 2 * HIDDEN
"""Parameters of a layer with half as many key/value heads as query heads."""
ALL = ROOT + LAYERS * LAYER
DEEP = {"num_hidden_layers": 24, "vocab_size": 64}
"""Peaks inside the layers' backward, not at the loss."""


def sharded(config: Mapping[str, int] | None = None, **overrides: Any) -> Job:
    return llama(
        config,
        **{
            "precision": Precision("bfloat16"),
            "parallelism": Parallelism(WORLD, "fsdp"),
            "optimizer": Optimizer("adamw_torch"),
            "batch": Batch(1, 64),
            **overrides,
        },
    )


def part(estimate: Estimate, name: str) -> int:
    return next((amount.bytes for amount in estimate.components if amount.name == name), 0)


def phase(estimate: Estimate, name: str) -> int:
    return next(peak.allocated for peak in estimate.phases if peak.phase == name)


def test_a_rank_holds_its_share_of_weights_gradients_and_states() -> None:
    found = simulate(sharded(), reserved=False)

    assert part(found, "weights") == pytest.approx(2 * ALL / WORLD, rel=0.001)
    assert part(found, "optimizer states") == pytest.approx(4 * ALL / WORLD, rel=0.001)


def test_the_optimizer_step_is_five_shares_of_a_model_in_16_bit() -> None:
    """Weights, gradients, two states and the temporaries of a foreach step."""
    found = simulate(sharded(), reserved=False)

    assert phase(found, "optimizer") == pytest.approx(5 * 2 * ALL / WORLD, rel=0.02)


def test_mixed_precision_widens_the_shares() -> None:
    found = simulate(sharded(precision=Precision("bfloat16", "bfloat16")), reserved=False)

    assert part(found, "weights") == pytest.approx(4 * ALL / WORLD, rel=0.001)
    assert phase(found, "optimizer") == pytest.approx(5 * 4 * ALL / WORLD, rel=0.02)


def test_without_synchronisation_gradients_stay_whole() -> None:
    once = simulate(sharded(batch=Batch(1, 64, 1)), reserved=False)
    twice = simulate(sharded(batch=Batch(1, 64, 2)), reserved=False)

    # at the end of the second backward the last layer to be reduced holds the others' shares, all its own and the flat
    # gradient of the first one
    assert phase(twice, "backward") - phase(once, "backward") > 2 * (ALL - ROOT) / WORLD


def test_offloaded_shares_leave_the_device() -> None:
    found = simulate(sharded(parallelism=Parallelism(WORLD, "fsdp", fsdp_offload=True)), reserved=False)
    on_device = simulate(sharded(), reserved=False)

    assert part(found, "weights") == part(found, "optimizer states") == 0
    assert found.host == 4 * 2 * ALL // WORLD  # weights, gradients and two states
    # the optimizer runs on the host; while a unit is gathered its share is on the device too
    assert phase(found, "optimizer") < phase(on_device, "optimizer") - 4 * 2 * ALL / WORLD
    assert found.allocated < on_device.allocated


def test_gradients_of_every_batch_may_be_reduced() -> None:
    apart, together = (
        simulate(
            sharded(batch=Batch(1, 64, 2), parallelism=Parallelism(WORLD, "fsdp", sync_each_batch=synchronised)),
            reserved=False,
        )
        for synchronised in (True, False)
    )
    once = simulate(sharded(), reserved=False)

    assert phase(once, "backward") < phase(apart, "backward") < phase(once, "backward") + 2 * ALL / WORLD
    assert phase(apart, "backward") < phase(together, "backward")


def test_a_bound_counts_shares_of_gradients_where_they_are_reduced() -> None:
    def bound(steps: int, *, each: bool) -> Estimate:
        objective = Objective(loss="grpo")
        parallelism = Parallelism(WORLD, "fsdp", sync_each_batch=each)
        return simulate(sharded(batch=Batch(1, 64, steps), objective=objective, parallelism=parallelism))

    assert bound(1, each=False).method == "bounded"
    assert bound(1, each=False).gradients == pytest.approx(bound(1, each=False).parameters, rel=0.01)
    assert bound(4, each=True).gradients == bound(1, each=False).gradients
    assert bound(4, each=False).gradients == pytest.approx(WORLD * bound(4, each=True).gradients, rel=0.01)


def test_backward_gathers_one_unit_in_advance() -> None:
    """Inside a reentrant checkpoint it does not, and the peak is a layer later, behind one more gradient's share."""

    def run(mode: str, transformers: tuple[int, ...]) -> Estimate:
        libraries = Libraries(transformers=transformers)
        return simulate(sharded(DEEP, checkpointing=Checkpointing(mode), libraries=libraries), reserved=False)

    plain, reentrant, since = run("nonreentrant", (4, 50)), run("reentrant", (4, 50)), run("reentrant", (4, 53))

    assert phase(since, "backward") > phase(reentrant, "backward")
    assert phase(plain, "backward") - phase(reentrant, "backward") == pytest.approx(
        2 * LAYER - 2 * LAYER / WORLD, rel=0.05
    )


def test_frozen_units_under_a_reentrant_checkpoint_keep_inputs_until_backward_is_over() -> None:
    length = 8192
    shared, apart = (
        simulate(
            sharded(
                DEEP,
                adapter=Adapter(8, 0.0, ("q_proj",)),
                batch=Batch(1, length),
                checkpointing=Checkpointing("reentrant"),
                parallelism=Parallelism(WORLD, "fsdp", fsdp_adapters_apart=apart),
                libraries=Libraries(transformers=(4, 52)),
            ),
            reserved=False,
        )
        for apart in (False, True)
    )
    hidden = 2 * length * HIDDEN
    # where the base shares its flat parameters with the adapters, every layer leaves its share of a gradient instead
    shares = DEEP["num_hidden_layers"] * 2 * LAYER / WORLD

    assert phase(apart, "forward") <= phase(shared, "forward")
    assert phase(apart, "backward") - phase(shared, "backward") > (DEEP["num_hidden_layers"] - 1) * hidden - shares


def test_streams_and_the_constructor_reserve_more() -> None:
    found = simulate(sharded())
    shares = sharded(parallelism=Parallelism(1))

    assert found.reserved - found.allocated > simulate(shares).reserved - simulate(shares).allocated


def test_stage_3_steps_one_sub_group_after_the_other() -> None:
    whole, pieces = (
        simulate(
            sharded(
                precision=Precision("float32", "bfloat16"),
                parallelism=Parallelism(WORLD, "deepspeed", Zero(3, reduce_bucket_size=1000, sub_group_size=size)),
            ),
            reserved=False,
        )
        for size in (ALL, 100_000)
    )

    # a float32 gradient and what a foreach step of one flat tensor holds; a sub-group has one whole part at the least
    saved = (4 + 4) * (ALL - VOCABULARY) // WORLD
    assert phase(whole, "optimizer") - phase(pieces, "optimizer") == pytest.approx(saved, rel=0.01)


def test_a_bound_divides_what_gpus_share_by_matrices_and_layers() -> None:
    whole = simulate(sharded(parallelism=Parallelism(8, "megatron"), objective=Objective(loss="grpo")))
    shared = simulate(sharded(parallelism=Parallelism(8, "megatron", model_shards=4, optimizer_shards=2)))

    assert shared.method == "bounded"
    assert "share matrices" in shared.notes[0]
    assert shared.total_parameters == whole.total_parameters
    assert shared.parameters == pytest.approx(whole.parameters / 4, rel=0.01)
    assert shared.gradients == pytest.approx(whole.gradients / 4, rel=0.01)
    assert shared.optimizer_states == pytest.approx(whole.optimizer_states / 8, rel=0.01)


@pytest.mark.parametrize("version", [1, 2])
def test_a_packed_weight_is_divided_as_it_is_stored(version: int) -> None:
    estimate = simulate(
        sharded(
            parallelism=Parallelism(WORLD, "fsdp", fsdp_version=version),
            adapter=Adapter(r=4, target_modules=("q_proj",)),
            quantization=Quantization("nf4", compute_dtype="bfloat16"),
        )
    )
    projections = LAYERS * (LAYER - 2 * HIDDEN)
    beside = 2 * (ROOT + LAYERS * 2 * HIDDEN)
    adapters = 4 * LAYERS * 4 * 2 * HIDDEN
    assert estimate.parameters == pytest.approx((projections // 2 + beside + adapters) / WORLD, rel=0.02)


def test_a_frozen_unit_stays_until_the_one_before_it_is_gathered() -> None:
    """One gradient runs through both: FSDP 1 gathers on a unit's output, and frees a frozen one on its input."""
    found = simulate(
        sharded(
            DEEP,
            adapter=Adapter(8, 0.0, ("q_proj",)),
            precision=Precision("bfloat16", "bfloat16"),
            parallelism=Parallelism(WORLD, "fsdp", fsdp_prefetches=False),
        ),
        reserved=False,
    )

    assert found.peak_phase == "backward"
    assert part(found, "gathered parameters") > 2 * 2 * LAYER


def test_an_adapter_that_is_stored_in_float32_casts_its_input_there_and_back() -> None:
    """Which leaves a 16-bit copy of the input of every adapted product, where the products alone share one."""
    length, targets = 2048, ("q_proj", "v_proj")

    def run(*names: str) -> Estimate:
        return simulate(
            sharded(
                adapter=Adapter(8, 0.0, names),
                precision=Precision("bfloat16", "bfloat16"),
                batch=Batch(1, length),
            ),
            reserved=False,
        )

    more = run(*targets).saved_activations - run(targets[0]).saved_activations

    assert more >= LAYERS * 2 * length * HIDDEN


def test_stage_3_keeps_the_inputs_of_frozen_matrices() -> None:
    """DeepSpeed's F.linear saves its input whatever trains."""
    frozen = (r"\.up_proj", r"\.gate_proj")
    length = 2048

    def kept(parallelism: Parallelism, *names: str) -> int:
        job = sharded(parallelism=parallelism, batch=Batch(1, length), precision=Precision("float32", "bfloat16"))
        return simulate(replace(job, frozen_parameters=names), reserved=False).saved_activations

    three, two = (Parallelism(WORLD, "deepspeed", Zero(stage)) for stage in (3, 2))

    assert kept(three) - kept(three, *frozen) < kept(two) - kept(two, *frozen)


def test_slices_of_a_model_in_one_unit_belong_to_the_first_ranks_parameters() -> None:
    """Of a model that nothing wraps the first of many ranks owns a part of the embedding alone: one step counter."""
    world = 64
    whole = sharded(
        parallelism=Parallelism(world, "fsdp", fsdp_wraps_layers=False, rank=0),
        optimizer=Optimizer("adamw_torch_fused"),
    )
    found = simulate(whole, reserved=False)

    assert found.optimizer_states == 2 * 2 * -(-ALL // world) + 4


LORA = {
    "adapter": Adapter(8, 0.0, ("q_proj", "v_proj")),
    "precision": Precision("bfloat16", "bfloat16"),
}
"""A run whose adapters are units of their own."""


def test_a_layer_is_not_gathered_before_the_one_behind_it_comes_to_its_first_adapter() -> None:
    """What ended before a layer's forward is its own last adapter: gathering that in advance is next to nothing."""

    def peak(*, prefetches: bool) -> int:
        ranks = Parallelism(WORLD, "fsdp", fsdp_prefetches=prefetches)
        return phase(simulate(sharded(DEEP, parallelism=ranks, **LORA), reserved=False), "backward")

    assert peak(prefetches=True) - peak(prefetches=False) < 2 * LAYER


def test_a_checkpoint_inside_of_a_frozen_unit_leaves_the_layers_input_to_autograd() -> None:
    """A reentrant checkpoint around the unit runs it again, whose hook then holds that input and its gradient."""
    length, batch = 512, 4

    def peak(*, within: bool) -> int:
        job = sharded(
            DEEP,
            checkpointing=Checkpointing("reentrant", within_units=within),
            batch=Batch(batch, length),
            libraries=Libraries(transformers=(4, 52)),
            **LORA,
        )
        return phase(simulate(job, reserved=False), "backward")

    layers = DEEP["num_hidden_layers"] - 2  # but for those at the ends
    assert peak(within=False) - peak(within=True) >= layers * 2 * batch * length * HIDDEN

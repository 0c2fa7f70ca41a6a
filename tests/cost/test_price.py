"""FLOPs, times and GPU-hours of a step."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.cost.builders import PARAMETERS, TOKENS, estimate, gpu, job, work
from vramlint.cost import cost_of, middle, slowdown
from vramlint.cost.megatron import bubble
from vramlint.cost.rates import rates_of
from vramlint.cost.utilisation import MEASURED
from vramlint.estimate import Cost, Estimate, RankPeak, Work
from vramlint.job import Batch, Gpu, Job, Megatron, Model, Objective, Parallelism, SharedSequence, Zero
from vramlint.thumb.formulas import gpu_hours, training_compute

BIG = 10**9
"""Times the work, so that a step takes seconds."""


def priced(subject: Job, found: Estimate | None = None) -> Cost:
    cost = cost_of(subject, found or estimate())
    assert cost is not None
    return cost


def heavy(**parts) -> Estimate:
    return estimate(work=tuple(replace(item, flops=item.flops * BIG) for item in work(**parts)))


def test_a_step_takes_all_micro_batches_of_all_gpus():
    cost = priced(job(Parallelism(8, "ddp")))
    assert (cost.forward, cost.backward, cost.recomputed) == tuple(n * PARAMETERS * TOKENS for n in (2, 4, 0))
    assert cost.step == training_compute(PARAMETERS, cost.tokens or 0) == 8 * 4 * 6 * PARAMETERS * TOKENS
    assert (cost.micro_batches, cost.gpus, cost.tokens) == (4, 8, 8 * 4 * TOKENS)


def test_layers_on_several_gpus_take_turns():
    cost = priced(job(Parallelism(4, "device_map")))
    assert cost.step == 4 * 6 * PARAMETERS * TOKENS
    assert cost.tokens == 4 * TOKENS


def test_what_is_not_trained_or_not_counted_has_no_cost():
    assert cost_of(job(objective=Objective("inference")), estimate()) is None
    assert cost_of(job(), estimate(work=())) is None


def test_images_are_not_counted_in_tokens():
    assert priced(job(model=Model("v", "vit", task="image-cls"))).tokens is None
    both = priced(job(model=Model("t", "t5", task="seq2seq-lm"), batch=Batch(2, 128, target_length=32)))
    assert both.tokens == 2 * (128 + 32)


def test_gpu_hours_are_those_of_the_measured_utilisation():
    low, high, *_ = MEASURED["hopper"]
    cost = priced(job(gpu=gpu("h100")), heavy())
    assert cost.gpu_hours is not None
    least, most = cost.gpu_hours
    assert least == pytest.approx(gpu_hours(cost.step, 989e12, high), rel=1e-6)
    assert most == pytest.approx(gpu_hours(cost.step, 989e12, low), rel=1e-6)


def test_a_card_that_nobody_measured_gets_a_wider_range_that_says_so():
    cost = priced(job(gpu=gpu("rtx4090")), heavy())
    assert cost.duration is not None
    assert cost.duration.most is not None
    least, most = cost.duration.least, cost.duration.most
    full = cost.step / 165.2e12
    assert 1 / 0.93 < least / full < most / full < 6
    assert "operations a byte" in cost.duration.assumption


@pytest.mark.parametrize(
    ("subject", "found", "why"),
    [
        (job(), estimate(), "no GPU is declared"),
        (job(gpu=gpu("24GiB")), estimate(), "no GPU is declared"),
        (job(gpu=gpu("gtx-1080")), estimate(work=work(dtype="float32")), "products in float32"),
        (job(gpu=gpu("h100")), estimate(work=(*work(), *work(dtype="float64"))), "products in float64"),
        (job(Parallelism(16, "ddp", nodes=2), gpu=gpu("h100")), estimate(), "machines are connected"),
        (job(Parallelism(2, "ddp"), gpu=gpu("gtx-1080")), estimate(work=work(dtype="float16")), "no rate"),
    ],
)
def test_what_is_not_known_gives_no_time(subject, found, why):
    cost = priced(subject, found)
    assert cost.duration is None
    assert any(why in note for note in cost.notes)


def test_products_of_a_router_do_not_hide_the_rate_of_all_others():
    router = Work("forward", "linear", "float64", True, PARAMETERS)
    assert priced(job(gpu=gpu("h100")), estimate(work=(*work(), router))).duration is not None


def test_rates_come_from_the_row_in_one_direction():
    h100, card, a100 = (rates_of(gpu(name)) for name in ("h100", "rtx4060", "a100-sxm4-80gb"))
    assert h100 is not None
    assert card is not None
    assert a100 is not None
    assert (h100.links, h100.host, h100.memory) == (450e9, 64e9, 3350e9)
    assert card.host == 16e9  # eight lanes of PCI Express 4
    assert a100.host == 32e9
    assert rates_of(None) is None


def test_stages_wait_for_one_another_and_less_so_in_chunks():
    def waits(pipeline: int, chunks: int = 1) -> float:
        spread = Parallelism(8, "megatron", megatron=Megatron(pipeline=pipeline, chunks=chunks))
        return bubble(job(spread))

    assert waits(1) == 0
    assert waits(4) == pytest.approx(3 / 7)
    assert waits(4, chunks=3) == pytest.approx(1 / 5)


def test_a_pipeline_is_as_fast_as_its_busiest_stage():
    other = tuple(replace(item, flops=item.flops // 2) for item in work())
    ranks = (RankPeak("stage 0", 4, 0, 0, work=work()), RankPeak("stage 1", 4, 0, 0, work=other))
    cost = priced(job(Parallelism(8, "megatron", megatron=Megatron(pipeline=2))), estimate(ranks=ranks))
    assert cost.micro_batch == 6 * PARAMETERS * TOKENS
    assert cost.step == 4 * (4 * 6 + 4 * 3) * PARAMETERS * TOKENS
    assert cost.tokens == 4 * 4 * TOKENS


def test_chunks_and_shares_of_a_sequence_count_as_often_as_they_run():
    parts = (Work("forward", "linear", "bfloat16", True, 10), Work("forward", "linear", "bfloat16", False, 1),
             Work("forward", "attention", "bfloat16", True, 100))  # fmt: skip
    spread = Parallelism(8, "megatron", megatron=Megatron(pipeline=2, chunks=2, context=4))
    assert priced(job(spread), estimate(work=parts)).forward == 2 * 10 + 1 + 2 * 4 * 100


@pytest.mark.parametrize(("form", "times"), [("ulysses", 1), ("ring", 4)])
def test_ranks_of_a_ring_meet_the_keys_of_all_and_together_have_one_sequence(form, times):
    parts = (Work("forward", "linear", "bfloat16", True, 10), Work("forward", "attention", "bfloat16", True, 100))
    cost = priced(job(Parallelism(8, "fsdp", sequence=SharedSequence(4, form))), estimate(work=parts))
    assert cost.forward == 10 + 100 * times
    assert cost.tokens == 4 * 2 * TOKENS


# ---------------------------------------------------------------------- what a change costs


def test_recomputation_takes_a_third_more_by_its_operations():
    before, after = (job(), estimate()), (job(), estimate(work=work(again=2)))
    found = slowdown(before, after)
    assert found is not None
    assert (found.least, found.most) == (pytest.approx(4 / 3), pytest.approx(4 / 3))
    assert "operations" in found.assumption


def test_traffic_makes_a_difference_only_where_it_is_not_hidden():
    def on(stage: int) -> tuple[Job, Estimate]:
        found = replace(heavy(), trainable_parameters=10**10, total_parameters=10**10, gradients=2 * 10**10)
        return job(Parallelism(8, "deepspeed", Zero(stage)), gpu=gpu("h100")), found

    found = slowdown(on(2), on(3))
    assert found is not None
    assert found.least == pytest.approx(1.0)
    assert 1.0 < found.most < 2.0
    assert found.least < middle(found) < found.most
    assert not found.left_out


@pytest.mark.parametrize(
    ("spread", "least", "most"),
    [(Parallelism(8, "deepspeed", Zero(2)), 0.22, 1.2), (Parallelism(8, "fsdp"), 1.39, 5.6)],
)
def test_the_hosts_cores_take_seconds_for_every_billion_parameters_of_a_machine(spread, least, most):
    """https://arxiv.org/abs/2101.06840, table 4."""
    zero = Zero(2, offload_optimizer="cpu") if spread.zero else None
    offloading = replace(spread, zero=zero, fsdp_offload=zero is None)
    found = estimate(trainable_parameters=10**9, total_parameters=10**9, gradients=0, optimizer_states=0)
    cost = priced(job(offloading, gpu=gpu("h100")), found)
    assert cost.duration is not None
    assert cost.duration.most is not None
    assert least < cost.duration.least < least + 0.2
    assert most < cost.duration.most < most + 0.3
    assert "by the host's cores" in cost.duration.assumption
    two = replace(offloading, world_size=16, nodes=2)
    assert load_seconds(two, found) == pytest.approx(least / 2)


def load_seconds(spread: Parallelism, found: Estimate) -> float:
    from vramlint.cost.price import load

    rates = rates_of(gpu("h100"))
    assert rates is not None
    result = load(job(spread), found, (), rates)
    assert not isinstance(result, str)
    return result.update[0]


def test_offloading_takes_the_time_of_the_hosts_update():
    def offloading(device: str) -> tuple[Job, Estimate]:
        spread = Parallelism(8, "deepspeed", Zero(2, offload_optimizer=device))
        found = replace(heavy(), trainable_parameters=10**9, total_parameters=10**9)
        return job(spread, gpu=gpu("rtx4090")), found

    found = slowdown(offloading("none"), offloading("cpu"))
    assert found is not None
    assert found.most > found.least > 1
    assert "cores for the update" in found.assumption


def test_traffic_between_gpus_of_no_known_rate_is_left_out_and_said():
    def on(stage: int) -> tuple[Job, Estimate]:
        return job(Parallelism(8, "deepspeed", Zero(stage))), estimate()

    found = slowdown(on(2), on(3))
    assert found is not None
    assert (found.least, found.left_out) == (1.0, "traffic between GPUs")
    same = slowdown(on(2), on(2))
    assert same is not None
    assert not same.left_out


@pytest.mark.parametrize(
    ("card", "slower"),
    [("a100-sxm4-80gb", 16), ("h100", 14.8), ("v100-sxm2-32gb", 8), ("t4", 8), ("rtx3090", 2), ("rtx4090", 2),
     ("l4", 4), ("a10g", 2), ("l40s", 4), ("l40", 2), ("h20-96gb", 3.4)],
)  # fmt: skip
def test_products_in_float32_run_at_the_rate_of_data_sheets(card, slower):
    rates = rates_of(gpu(card))
    assert rates is not None
    assert rates.flops["float16"] / rates.flops["float32"] == pytest.approx(slower)


def test_products_in_another_dtype_have_another_rate():
    after = job(gpu=gpu("rtx4090")), heavy()
    found = slowdown((job(gpu=gpu("rtx4090")), heavy(dtype="float32")), after)
    assert found is not None
    assert found.least == pytest.approx(1 / 2, rel=1e-3)
    half = job(gpu=gpu("a100-80gb")), heavy(dtype="float16")
    same = slowdown(half, (job(gpu=gpu("a100-80gb")), heavy()))
    assert same is not None
    assert same.least == same.most == pytest.approx(1)
    assert slowdown((job(), estimate(work=())), after) is None


def test_custom_sizes_have_no_row():
    assert isinstance(gpu("24GiB"), Gpu)
    assert rates_of(gpu("24GiB")) is None

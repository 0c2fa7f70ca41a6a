import pytest
from msgspec.structs import replace

from tests.engine.builders import GIB, GPU, run
from vramlint.estimate import Amount, Estimate, PhasePeak, Work
from vramlint.findings import Fix
from vramlint.fixes import plan
from vramlint.fixes.moves import MOVES
from vramlint.job import (
    Batch,
    Evaluation,
    Gpu,
    Job,
    Loading,
    Megatron,
    Model,
    Optimizer,
    Parallelism,
    Precision,
    Quantization,
)

PARAMETERS = 1.5


def simulate(job: Job) -> Estimate:
    """A toy of the memory model: figures that behave like those of a model with 1.5 GiB parameters per byte of each."""
    weights: float = 4 if job.precision.weights == "float32" else 2
    trained = 0.02 if job.adapter else 1
    if job.quantization:
        weights = 0.6
    states = {"adamw_bnb_8bit": 2, "paged_adamw_8bit": 1.9}.get(job.optimizer.name, 8)
    zero = job.parallelism.zero
    world = job.parallelism.world_size
    shard = [1 / world if zero and zero.stage >= stage else 1 for stage in (1, 2, 3)]
    activations: float = 6 * job.batch.micro_batch_size
    activations *= 0.5 if job.precision.autocast else 1
    activations *= 0.2 if job.checkpointing.mode != "none" else 1
    model = PARAMETERS * (weights * shard[2] + trained * (4 * shard[1] + states * shard[0]))
    size = int((model + activations) * GIB)
    return Estimate(
        "simulated", size, size, 0, "backward", (PhasePeak("backward", size, size),), (Amount("all", size),)
    )


def job(world_size: int = 1) -> Job:
    parallelism = Parallelism(world_size, "ddp" if world_size > 1 else "none")
    optimizer = Optimizer("adamw_torch_fused")
    return Job(Model("m", "llama"), batch=Batch(8, 2048), gpu=GPU, optimizer=optimizer, parallelism=parallelism)


def card(gib: float) -> Gpu:
    return replace(GPU, usable_bytes=int(gib * GIB))


def planned(subject: Job, gib: float, headroom: float = 1) -> Fix:
    fix = plan(run(jobs=(subject,)), subject, card(gib), simulate, headroom=headroom)
    assert fix is not None
    return fix


def test_a_job_that_fits_needs_no_plan() -> None:
    assert plan(run(), job(), card(100), simulate) is None


def test_the_same_global_batch_in_smaller_parts_comes_first_and_no_smaller_than_needed() -> None:
    fix = planned(job(), 50)
    assert [step.description for step in fix.steps] == ["micro batch size 4, 2 accumulation steps"]
    assert fix.fits
    assert fix.peak == int(48 * GIB)
    assert fix.steps[0].saves == 24 * GIB
    assert fix.steps[0].safe


def test_changes_of_numerics_come_after_those_that_only_cost_time() -> None:
    fix = planned(job(), 22)
    assert [step.safe for step in fix.steps] == sorted((step.safe for step in fix.steps), reverse=True)
    assert any("8-bit" in step.description for step in fix.steps)
    assert not any("LoRA" in step.description for step in fix.steps)
    assert fix.fits
    assert fix.peak <= 22 * GIB


def test_what_a_dearer_step_makes_unnecessary_is_dropped() -> None:
    fix = planned(job(), 8)
    assert any("LoRA" in step.description for step in fix.steps)
    without = [step.description for step in fix.steps]
    assert not any("8-bit AdamW" in words for words in without)


@pytest.mark.parametrize("gib", [7, 9, 12, 15, 20, 25, 30, 40, 60])
def test_every_step_is_needed_and_the_savings_add_up(gib: float) -> None:
    subject = job()
    fix = planned(subject, gib)
    assert fix.fits
    assert fix.peak <= gib * GIB
    assert sum(step.saves for step in fix.steps) == simulate(subject).device_high - fix.peak


def test_a_plan_leaves_headroom_where_it_can() -> None:
    subject = job()
    tight = planned(subject, 48)
    roomy = planned(subject, 48, headroom=0.9)
    assert tight.peak == 48 * GIB
    assert roomy.peak <= 0.9 * 48 * GIB
    least = planned(subject, 0.1).peak
    only_just = planned(subject, least / GIB, headroom=0.9)
    assert only_just.fits
    assert only_just.peak == least


def test_sharding_is_offered_to_runs_of_several_gpus_only() -> None:
    several = job(world_size=8)
    assert any("ZeRO" in step.description for step in planned(several, 20).steps)
    assert not any("ZeRO" in step.description for step in planned(job(), 20).steps)


def test_bf16_is_offered_to_gpus_that_compute_in_it_only() -> None:
    old = replace(card(7), bf16=False)
    fix = plan(run(), job(), old, simulate)
    assert fix is None or not any("bf" in step.description for step in fix.steps)


@pytest.mark.parametrize(("row", "rows"), [(20, "4 sequences"), (75, "one sequence")])
def test_a_peak_in_evaluation_is_mended_there(row: int, rows: str) -> None:
    def with_evaluation(subject: Job) -> Estimate:
        training = simulate(subject)
        batch = subject.evaluation.micro_batch_size if subject.evaluation else 0
        size = row * GIB * batch
        if size <= training.allocated:
            return training
        return replace(training, allocated=size, reserved=size, peak_phase="evaluation")

    subject = replace(job(), evaluation=Evaluation(8))
    fix = plan(run(jobs=(subject,)), subject, card(80), with_evaluation, headroom=1)

    assert fix is not None
    assert [step.description for step in fix.steps] == [f"an evaluation batch of {rows}"]


def test_where_nothing_fits_the_nearest_miss_is_shown() -> None:
    fix = planned(job(), 1)
    assert not fix.fits
    assert fix.peak > 1 * GIB
    assert fix.steps


def test_an_architecture_that_cannot_be_simulated_gets_no_plan() -> None:
    bounded = lambda job: replace(simulate(job), method="bounded")  # noqa: E731  # a test's one-liner
    assert plan(run(), job(), card(1), bounded) is None


def test_the_number_of_simulations_is_bounded() -> None:
    calls = []

    def counting(subject: Job) -> Estimate:
        calls.append(subject)
        return simulate(subject)

    plan(run(), job(world_size=8), card(1), counting)
    assert len(calls) <= 61


def test_steps_are_said_in_the_files_own_words_where_a_writer_can() -> None:
    write = lambda _run, changes: (", ".join(f"{key}={value}" for key, value in changes.items()), ())  # noqa: E731
    fix = plan(run(), job(), card(50), simulate, write, headroom=1)
    assert fix is not None
    assert fix.steps[0].description == "micro_batch_size=4, gradient_accumulation_steps=2"


def test_moves_are_ordered_by_price_and_named_once() -> None:
    prices = [move.price for move in MOVES]
    assert prices == sorted(prices)
    assert len({move.name for move in MOVES}) == len(MOVES)


def with_work(job: Job) -> Estimate:
    """The toy with as many products as checkpointing and the parameters' gathers make."""
    found = simulate(job)
    parts = [("forward", 2), ("backward", 4), *([("recomputed", 2)] if job.checkpointing.mode != "none" else [])]
    work = tuple(Work(part, "linear", "bfloat16", True, times * 10**15) for part, times in parts)
    return replace(found, work=work, total_parameters=10**9, trainable_parameters=10**9, gradients=2 * 10**9)


def test_every_step_says_what_it_does_to_the_time_of_a_step() -> None:
    subject = replace(job(), batch=Batch(1, 2048))
    fix = plan(run(jobs=(subject,)), subject, card(20), with_work, headroom=1)
    assert fix is not None
    times = {step.description: step.slowdown for step in fix.steps}
    again = times["activation checkpointing"]
    assert again is not None
    assert again.least == pytest.approx(4 / 3, rel=1e-3)
    assert again.most == pytest.approx(4 / 3, rel=1e-3)
    fix = plan(run(jobs=(job(),)), job(), card(50), with_work, headroom=1)
    assert fix is not None
    assert [step.slowdown for step in fix.steps] == [None]  # how much less a GPU is filled is not known


def test_of_moves_of_about_one_price_the_quicker_is_taken() -> None:
    from vramlint.catalog.gpus import find_gpu

    h100 = find_gpu("h100")
    assert isinstance(h100, Gpu)
    start = replace(job(8), batch=Batch(1, 2048), gpu=h100)

    def shards(job: Job) -> Estimate:
        found = with_work(job)
        zero = job.parallelism.zero
        fits = job.checkpointing.mode != "none" or (zero is not None and zero.stage == 3)
        size = GIB if fits else 100 * GIB
        return replace(found, allocated=size, reserved=size)

    fix = plan(run(jobs=(start,)), start, replace(h100, usable_bytes=50 * GIB), shards, headroom=1)
    assert fix is not None
    assert [step.description for step in fix.steps] == ["DeepSpeed ZeRO stage 3"]
    fix = plan(run(jobs=(start,)), replace(start, gpu=None), replace(h100, usable_bytes=50 * GIB), shards, headroom=1)
    assert fix is not None
    assert [step.description for step in fix.steps] == ["activation checkpointing"]


def offered(subject: Job) -> set[str]:
    return {move.name for move in MOVES if move.applies(subject, GPU)}


def test_megatron_is_offered_what_it_has() -> None:
    engine = Megatron(tensor=2)
    shared = Parallelism(8, "megatron", megatron=engine)
    mixed = Precision("float32", "bfloat16")
    subject = replace(job(), parallelism=shared, precision=mixed, optimizer=Optimizer("adamw_apex_fused"))
    assert offered(subject) == {"activation-checkpointing", "distributed-optimizer", "smaller-micro-batch"}
    moves = {move.name: move for move in MOVES}
    recomputed = moves["activation-checkpointing"].change(subject).parallelism.megatron
    divided = moves["distributed-optimizer"].change(subject).parallelism.megatron
    assert recomputed is not None and recomputed.recompute == "full"
    assert divided is not None and divided.distributed_optimizer
    rest = replace(engine, recompute="full", distributed_optimizer=True)
    assert offered(replace(subject, parallelism=replace(shared, megatron=rest))) == {"smaller-micro-batch"}


def test_weights_that_are_narrowed_on_the_device_can_be_loaded_so() -> None:
    move = next(move for move in MOVES if move.name == "cast-while-loading")
    narrowed = replace(
        job(), precision=Precision("float16"), loading=Loading("float32", mapped=True, arrives="float32")
    )
    assert move.applies(narrowed, GPU)
    assert move.facts(narrowed) == {"arrival_dtype": "float16"}
    assert move.change(narrowed).loading == Loading("float32", mapped=True)
    widened = replace(
        narrowed, precision=Precision("float32"), loading=Loading("float16", mapped=True, arrives="float16")
    )
    quantized = replace(narrowed, quantization=Quantization())
    for other in (widened, quantized, replace(narrowed, loading=None), replace(narrowed, loading=Loading("float32"))):
        assert not move.applies(other, GPU)


def in_segments(job: Job) -> Estimate:
    """The toy with segments that lose a quarter of the tensors unless they can grow."""
    found = simulate(job)
    lost = 0 if job.allocator.expandable_segments else found.allocated // 4
    return replace(found, least=found.allocated + lost, tight=found.allocated + lost > 52 * GIB)


def settled(subject: Job, gib: float) -> Fix:
    gpu = replace(card(gib), compute_capability=(8, 0))
    fix = plan(run(jobs=(subject,)), subject, gpu, simulate, headroom=1, played=in_segments)
    assert fix is not None
    return fix


def test_segments_that_grow_are_the_first_remedy_where_tensors_have_room():
    needed = simulate(job()).allocated / GIB
    fix = settled(replace(job(), batch=Batch(1, 2048)), 30)
    assert [step.description for step in fix.steps] == ["expandable segments"]
    assert fix.fits
    assert fix.steps[0].saves > 0
    assert needed > 30


def test_moves_are_held_against_the_allocator():
    fix = settled(job(), 51)
    assert [step.description for step in fix.steps] == [
        "micro batch size 4, 2 accumulation steps",
        "expandable segments",
    ]
    assert fix.fits
    assert sum(step.saves for step in fix.steps) == in_segments(job()).device_need - fix.peak


def test_where_segments_cannot_grow_more_is_taken_off_the_tensors():
    subject = replace(job(), libraries=replace(job().libraries, torch=(2, 0, 0)))
    fix = settled(subject, 51)
    assert fix.fits
    assert "micro batch size 4, 2 accumulation steps" not in [step.description for step in fix.steps]
    assert fix.peak <= 51 * GIB


def test_fsdp_is_offered_its_own_words() -> None:
    shared = Parallelism(8, "fsdp", fsdp_sharding="grad-op", fsdp_wraps_layers=False)
    subject = replace(job(), parallelism=shared)
    moves = {move.name: move for move in MOVES}
    assert {"fsdp-full-shard", "fsdp-wrap-layers", "fsdp-offload"} <= offered(subject)
    assert moves["fsdp-full-shard"].facts(subject) == {"fsdp": "full_shard"}
    assert moves["fsdp-wrap-layers"].facts(subject) == {"fsdp": "shard_grad_op auto_wrap"}
    assert moves["fsdp-offload"].facts(subject) == {"fsdp": "shard_grad_op offload"}
    hybrid = replace(job(), parallelism=Parallelism(16, "fsdp", replicas=2))
    assert moves["fsdp-across-machines"].facts(hybrid) == {"fsdp": "full_shard auto_wrap"}
    assert moves["fsdp-across-machines"].change(hybrid).parallelism.sharing == 16
    assert not any(name.startswith("zero") for name in offered(subject))


def test_optimizers_that_need_plain_tensors_or_whole_gradients_are_not_offered_what_takes_them_away() -> None:
    second = replace(job(), parallelism=Parallelism(8, "fsdp", fsdp_version=2), optimizer=Optimizer("adamw_torch"))
    assert "8bit-optimizer" not in offered(second)
    apollo = replace(job(8), optimizer=Optimizer("apollo_adamw"))
    assert not any(name.startswith("zero") for name in offered(apollo))


def test_room_to_spare_is_not_worth_another_result() -> None:
    fix = planned(job(), 48, headroom=0.99)
    just = planned(job(), 48)
    assert [step.safe for step in just.steps] == [True]
    assert all(step.safe for step in fix.steps)


def test_what_helps_only_behind_another_move_comes_after_it() -> None:
    def late(subject: Job) -> Estimate:
        found = simulate(subject)
        size = found.allocated if subject.checkpointing.mode != "none" else max(found.allocated, 60 * GIB)
        return replace(found, allocated=size, reserved=size)

    fix = plan(run(jobs=(job(),)), job(), card(40), late, headroom=1)
    assert fix is not None
    assert fix.steps[0].description == "activation checkpointing"
    assert all(step.saves > 0 for step in fix.steps)


def test_a_bound_is_no_figure_that_fits() -> None:
    def bounded_with_adapters(subject: Job) -> Estimate:
        found = simulate(subject)
        return found if subject.adapter is None else replace(found, method="bounded", allocated=1, reserved=1)

    fix = plan(run(), job(), card(1), bounded_with_adapters)
    assert fix is None or fix.peak > GIB

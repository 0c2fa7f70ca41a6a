"""What decides that a step does not fit: gradients that FSDP keeps whole, a model that ZeRO 3 does, one stage."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.engine.builders import GIB, GPU, estimate, fact, place, run
from vramlint.engine.names import Scope
from vramlint.engine.predicates import (
    accumulated_gradients,
    batch_product_mismatch,
    rollouts_exceed,
    unbalanced_stages,
    uneven_ranks,
    uneven_secondary_partition,
    unquantized_arrival,
    unsharded_gradients,
    unsharded_model,
    whole_accumulated_gradients,
    wide_secondary_partition,
)
from vramlint.estimate import Amount, Estimate, RankPeak
from vramlint.facts import Fact, FactValue, Origin, Remark
from vramlint.job import Batch, Job, Model, NeoX, Parallelism, Precision, Quantization, Zero

LLAMA = Model("meta-llama/Llama-2-7b-hf", "llama")


def scope(job: Job, found: Estimate, *facts: Fact) -> Scope:
    return Scope.of(run(*facts, jobs=(job,)), [found])


def fsdp(steps: int = 8, **options: object) -> Job:
    shared = replace(Parallelism(8, "fsdp"), **options)  # tests name its fields
    return Job(LLAMA, precision=Precision("float32", "bfloat16"), parallelism=shared, batch=Batch(1, 512, steps))


WHOLE = replace(estimate(30, gradients=13, weights=17), trainable_parameters=7 * 2**30)


GRADIENTS = {
    "whole": (scope(fsdp(), WHOLE), "11.38 GiB"),
    "adapters": (scope(fsdp(), replace(WHOLE, trainable_parameters=6 * 2**30)), "10.50 GiB"),
    "held": (scope(fsdp(), replace(WHOLE, trainable_parameters=8 * 2**30)), "11.38 GiB"),
    "two steps": (scope(fsdp(steps=2), WHOLE), "11.38 GiB"),
    "two GPUs": (scope(fsdp(world_size=2), WHOLE), "6.50 GiB"),
    "one step": (scope(fsdp(steps=1), WHOLE), None),
    "synchronised": (scope(fsdp(sync_each_batch=True), WHOLE), None),
    "not shared": (scope(fsdp(fsdp_sharding="none"), WHOLE), None),
    "one GPU": (scope(fsdp(world_size=1), WHOLE), None),
    "ddp": (scope(fsdp(strategy="ddp"), WHOLE), None),
    "fits": (scope(fsdp(), replace(WHOLE, allocated=20 * GIB)), None),
    "too much anyway": (scope(fsdp(), replace(WHOLE, allocated=60 * GIB)), None),
    "bounded": (scope(fsdp(), replace(WHOLE, method="bounded")), None),
    "no autocast": (scope(replace(fsdp(), precision=Precision("bfloat16")), WHOLE), "11.38 GiB"),
    "one GPU, fragmented": (scope(fsdp(world_size=1), replace(WHOLE, allocated=23 * GIB, blocks=26 * GIB)), None),
    "just decide": (scope(fsdp(), replace(WHOLE, allocated=GPU.usable_bytes + 13 * GIB * 7 // 8)), "11.38 GiB"),
    "just fits": (scope(fsdp(), replace(WHOLE, allocated=GPU.usable_bytes)), None),
    "no GPU": (Scope.of(run(jobs=(fsdp(),), gpu=None), [WHOLE]), None),
}


@pytest.mark.parametrize(("scope", "detail"), GRADIENTS.values(), ids=GRADIENTS)
def test_gradients_that_decide(scope: Scope, detail: str | None) -> None:
    assert unsharded_gradients(scope) == detail


def zero(stage: int = 3, world: int = 8, **precision: str) -> Job:
    return Job(
        LLAMA,
        precision=Precision(**{"weights": "bfloat16", **precision}),  # type: ignore[arg-type]  # tests name its fields
        parallelism=Parallelism(world, "deepspeed", zero=Zero(stage)),
    )


SMALL = replace(estimate(24, gathered_parameters=0.75, weights=23), total_parameters=400_000_000)

MODELS = {
    "whole": (scope(zero(), SMALL), "0.65 GiB"),
    "two GPUs": (scope(zero(world=2), SMALL), "0.37 GiB"),
    "mixed": (scope(zero(weights="float32", autocast="bfloat16"), SMALL), "0.65 GiB"),
    "float32": (scope(zero(weights="float32"), SMALL), None),
    "nearly whole": (scope(zero(), replace(SMALL, total_parameters=447_000_000)), "0.73 GiB"),
    "just whole": (scope(zero(), replace(SMALL, components=(Amount("gathered parameters", 720_000_000),))), "0.65 GiB"),
    "a part of it": (scope(zero(), replace(SMALL, total_parameters=448_000_000)), None),
    "stage 2": (scope(zero(stage=2), SMALL), None),
    "one GPU": (scope(zero(world=1), SMALL), None),
    "no ZeRO": (scope(replace(zero(), parallelism=Parallelism(8, "ddp")), SMALL), None),
    "fits": (scope(zero(), replace(SMALL, allocated=22 * GIB)), None),
    "just fits": (scope(zero(), replace(SMALL, allocated=GPU.usable_bytes)), None),
    "bounded": (scope(zero(), replace(SMALL, method="bounded")), None),
    "no GPU": (Scope.of(run(jobs=(zero(),), gpu=None), [SMALL]), None),
}


@pytest.mark.parametrize(("scope", "detail"), MODELS.values(), ids=MODELS)
def test_a_model_that_stays_whole(scope: Scope, detail: str | None) -> None:
    assert unsharded_model(scope) == detail


def first_stage(world: int = 8, dtype: str | None = "float32", stage: int = 1) -> Job:
    zero = Zero(stage, gradient_accumulation_dtype=dtype)
    return Job(LLAMA, precision=Precision("bfloat16"), parallelism=Parallelism(world, "deepspeed", zero=zero))


def with_neox(neox: NeoX) -> Job:
    return replace(first_stage(), parallelism=replace(first_stage().parallelism, neox=neox))


ACCUMULATED = replace(estimate(30, gradients=12, weights=18), trainable_parameters=3 * 2**30)

WHOLE_ACCUMULATED = {
    "whole": (scope(first_stage(), ACCUMULATED), "10.50 GiB"),
    "two GPUs": (scope(first_stage(world=2), replace(ACCUMULATED, allocated=26 * GIB)), "6.00 GiB"),
    "with others beside": (scope(first_stage(), replace(ACCUMULATED, trainable_parameters=2 * 2**30)), "7.00 GiB"),
    "held": (scope(first_stage(), replace(ACCUMULATED, trainable_parameters=4 * 2**30)), "10.50 GiB"),
    "just decide": (
        scope(first_stage(), replace(ACCUMULATED, allocated=GPU.usable_bytes + 12 * GIB * 7 // 8)),
        "10.50 GiB",
    ),
    "one GPU": (scope(first_stage(world=1), replace(ACCUMULATED, allocated=23 * GIB, blocks=26 * GIB)), None),
    "ranks that share matrices": (
        scope(with_neox(NeoX(tensor=2, engine=False)), replace(ACCUMULATED, allocated=31 * GIB)),
        "9.00 GiB",
    ),
    "all share matrices": (scope(with_neox(NeoX(tensor=8, engine=False)), ACCUMULATED), None),
    "a pipeline": (scope(with_neox(NeoX()), ACCUMULATED), None),
    "narrow": (scope(first_stage(dtype="bfloat16"), ACCUMULATED), None),
    "by default": (scope(first_stage(dtype=None), ACCUMULATED), None),
    "stage 2": (scope(first_stage(stage=2), ACCUMULATED), None),
    "no ZeRO": (scope(replace(first_stage(), parallelism=Parallelism(8, "ddp")), ACCUMULATED), None),
    "fits": (scope(first_stage(), replace(ACCUMULATED, allocated=20 * GIB)), None),
    "too much anyway": (scope(first_stage(), replace(ACCUMULATED, allocated=60 * GIB)), None),
    "bounded": (scope(first_stage(), replace(ACCUMULATED, method="bounded")), None),
    "no GPU": (Scope.of(run(jobs=(first_stage(),), gpu=None), [ACCUMULATED]), None),
}


@pytest.mark.parametrize(("scope", "detail"), WHOLE_ACCUMULATED.values(), ids=WHOLE_ACCUMULATED)
def test_whole_gradients_of_the_first_stage(scope: Scope, detail: str | None) -> None:
    assert whole_accumulated_gradients(scope) == detail


def accumulating(steps: int = 2, strategy: str = "none") -> Job:
    return Job(LLAMA, parallelism=Parallelism(2, strategy), batch=Batch(1, 512, steps))


BESIDE = replace(
    estimate(26, gradients=4, activations=1, logits_and_loss=2, weights=19),
    gradients=4 * GIB,
    saved_activations=6 * GIB,
)

JUST = Amount("gradients", 36 * 10**8)


def little(gradients: int) -> Scope:
    parts = (Amount("activations", 6 * GIB), Amount("gradients", gradients))
    found = replace(BESIDE, gradients=gradients, components=parts, allocated=USABLE_OF_50 + 1)
    job = accumulating()
    return Scope.of(run(jobs=(job,), gpu=replace(GPU, usable_bytes=USABLE_OF_50)), [found])


USABLE_OF_50 = 24 * 10**9

EARLIER = {
    "two micro batches": (scope(accumulating(), BESIDE), "4.00 GiB"),
    "ddp": (scope(accumulating(strategy="ddp"), BESIDE), "4.00 GiB"),
    "dataparallel": (scope(accumulating(strategy="dataparallel"), BESIDE), "4.00 GiB"),
    "the next one's too": (scope(accumulating(), replace(BESIDE, gradients=3 * GIB)), "3.00 GiB"),
    "nearly all": (scope(accumulating(), replace(BESIDE, gradients=int(4.4 * GIB))), "4.00 GiB"),
    "just decide": (scope(accumulating(), replace(BESIDE, allocated=GPU.usable_bytes + 4 * GIB)), "4.00 GiB"),
    "just nearly all": (
        scope(accumulating(), replace(BESIDE, gradients=4 * 10**9, components=(*BESIDE.components[1:], JUST))),
        "3.35 GiB",
    ),
    "just two percent": (little(USABLE_OF_50 // 50), "0.45 GiB"),
    "less": (little(USABLE_OF_50 // 50 - 1), None),
    "some activations": (scope(accumulating(), replace(BESIDE, saved_activations=7 * GIB)), None),
    "some gradients": (scope(accumulating(), replace(BESIDE, gradients=int(4.5 * GIB))), None),
    "one micro batch": (scope(accumulating(steps=1), BESIDE), None),
    "shared": (scope(accumulating(strategy="fsdp"), BESIDE), None),
    "fits": (scope(accumulating(), replace(BESIDE, allocated=GPU.usable_bytes)), None),
    "too much anyway": (scope(accumulating(), replace(BESIDE, allocated=28 * GIB)), None),
    "bounded": (scope(accumulating(), replace(BESIDE, method="bounded")), None),
    "no GPU": (Scope.of(run(jobs=(accumulating(),), gpu=None), [BESIDE]), None),
}


@pytest.mark.parametrize(("scope", "detail"), EARLIER.values(), ids=EARLIER)
def test_gradients_of_earlier_micro_batches(scope: Scope, detail: str | None) -> None:
    assert accumulated_gradients(scope) == detail


def quantized(kind: str | None = "nf4", weights: str = "bfloat16", name: str = "acme/own-14b") -> Job:
    made = None if kind is None else Quantization(kind)
    return Job(Model(name, "llama"), precision=Precision(weights), quantization=made)


LOADED = replace(estimate(12), total_parameters=14 * 2**30)
WHOLE_LOADED = GPU.usable_bytes // 2

ARRIVALS = {
    "4 bits": (scope(quantized(), LOADED), "28.00 GiB"),
    "fp4": (scope(quantized("fp4"), LOADED), "28.00 GiB"),
    "loaded in float32": (scope(quantized(weights="float32"), LOADED), "56.00 GiB"),
    "8 bits are halved": (scope(quantized("int8", "float32"), LOADED), "28.00 GiB"),
    "just exceeds": (scope(quantized(), replace(LOADED, total_parameters=WHOLE_LOADED + 1)), "23.68 GiB"),
    "context beside": (scope(quantized(), replace(LOADED, total_parameters=WHOLE_LOADED, outside=2)), "23.68 GiB"),
    "training just fits": (scope(quantized(), replace(LOADED, allocated=GPU.usable_bytes)), "28.00 GiB"),
    "just fits": (scope(quantized(), replace(LOADED, total_parameters=WHOLE_LOADED)), None),
    "training does not": (scope(quantized(), replace(LOADED, allocated=GPU.usable_bytes + 1)), None),
    "not quantized": (scope(quantized(None), LOADED), None),
    "packed": (scope(quantized("gptq"), LOADED), None),
    "quantized before": (scope(quantized(name="unsloth/own-14b-bnb-4bit"), LOADED), None),
    "bounded": (scope(quantized(), replace(LOADED, method="bounded")), None),
    "no GPU": (Scope.of(run(jobs=(quantized(),), gpu=None), [LOADED]), None),
}


@pytest.mark.parametrize(("scope", "detail"), ARRIVALS.values(), ids=ARRIVALS)
def test_weights_that_arrive_ahead_of_their_quantization(scope: Scope, detail: str | None) -> None:
    assert unquantized_arrival(scope) == detail


SAMPLER = Model("own", "llama", {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096})
"""Half a MiB of cache a token."""


def sampling(*facts: Fact, strategy: str = "none", allocated: float = 20, steps: int = 4, **model: str) -> Scope:
    job = Job(
        replace(SAMPLER, **model),  # tests name its fields
        precision=Precision("bfloat16"),
        parallelism=Parallelism(1, strategy),
        batch=Batch(2, 512, steps),
    )
    held = replace(estimate(allocated, method="bounded"), gradients=4 * GIB)
    said: dict[str, FactValue] = {"objective": "grpo", "completion_length": 2048, "inference_engine": "none"}
    given = {fact.name: fact for fact in facts}
    rest = tuple([given.get(name, fact(name, value)) for name, value in said.items()])
    more = tuple([item for name, item in given.items() if name not in said])
    return Scope.of(run(*rest, *more, jobs=(job,)), [held])


NEEDED = (
    "8 samples of up to 2048 tokens need a key/value cache of 8.00 GiB, beside {} GiB of weights and optimizer states"
)
FULL = GPU.usable_bytes / GIB

SAMPLES = {
    "eight rows": (sampling(), NEEDED.format("16.00")),
    "ddp": (sampling(strategy="ddp"), NEEDED.format("16.00")),
    "unknown engine": (sampling(fact("inference_engine")), NEEDED.format("16.00")),
    "the states just fit": (sampling(allocated=FULL + 4), NEEDED.format("23.68")),
    "just not": (sampling(allocated=FULL - 4 + 1 / 2**20), NEEDED.format("15.68")),
    "just": (sampling(allocated=FULL - 4), None),
    "the states do not": (sampling(allocated=FULL + 4 + 1 / 2**20), None),
    "fewer steps": (sampling(fact("steps_per_generation", 1)), None),
    "a smaller batch": (sampling(fact("generation_batch_size", 2)), None),
    "one micro batch": (sampling(steps=1), None),
    "vllm": (sampling(fact("inference_engine", "vllm")), None),
    "sft": (sampling(fact("objective", "sft")), None),
    "unknown length": (sampling(fact("completion_length")), None),
    "shared": (sampling(strategy="fsdp"), None),
    "unknown cache": (sampling(model_type="mamba"), None),
    "no GPU": (Scope.of(run(jobs=(fsdp(),), gpu=None), [WHOLE]), None),
    "no job": (Scope.of(replace(run(), jobs=()), []), None),
}


@pytest.mark.parametrize(("scope", "detail"), SAMPLES.values(), ids=SAMPLES)
def test_samples_that_do_not_fit(scope: Scope, detail: str | None) -> None:
    assert rollouts_exceed(scope) == detail


def stages(*sizes: float) -> Scope:
    peaks = tuple([RankPeak(f"stage {number}", 1, 0, int(size * GIB)) for number, size in enumerate(sizes)])
    found = replace(estimate(max(sizes)), ranks=peaks if len(peaks) > 1 else ())
    return scope(Job(LLAMA, parallelism=Parallelism(8, "megatron")), found)


USABLE = GPU.usable_bytes / GIB

STAGES = {
    "last": (stages(20, 8, 8, 30), "the last needs 30.00 GiB, the one next to it 8.00 GiB"),
    "first": (stages(30, 10, 8, 12), "the first needs 30.00 GiB, the one next to it 10.00 GiB"),
    "two": (stages(30, 10), "the first needs 30.00 GiB, the one next to it 10.00 GiB"),
    "just enough room": (stages(USABLE + 1, USABLE - 1), "the first needs 24.68 GiB, the one next to it 22.68 GiB"),
    "a middle one": (stages(20, 30, 8, 8), None),
    "fits": (stages(20, 8, 8, 22), None),
    "just fits": (stages(20, 8, 8, USABLE), None),
    "all are too much": (stages(28, 28, 28, 30), None),
    "no pipeline": (stages(30), None),
    "no GPU": (Scope.of(run(jobs=(fsdp(),), gpu=None), [WHOLE]), None),
}


@pytest.mark.parametrize(("scope", "detail"), STAGES.values(), ids=STAGES)
def test_stages_out_of_balance(scope: Scope, detail: str | None) -> None:
    assert unbalanced_stages(scope) == detail


def kinds(*ranks: RankPeak) -> Scope:
    return scope(Job(LLAMA, parallelism=Parallelism(4, "dataparallel")), replace(estimate(30), ranks=ranks))


FIRST = RankPeak("GPU 0", 1, 0, 30 * GIB, "the model")
OTHERS = RankPeak("other GPUs", 3, 0, 20 * GIB)
JUST_FITS, JUST_NOT = GPU.usable_bytes, GPU.usable_bytes + 1

RANKS = {
    "first": (kinds(FIRST, OTHERS), "GPU 0, which holds the model, needs 30.00 GiB, others 20.00 GiB"),
    "holds nothing more": (kinds(replace(FIRST, holds=""), OTHERS), "GPU 0 needs 30.00 GiB, others 20.00 GiB"),
    "several": (
        kinds(replace(FIRST, ranks=2), OTHERS),
        "GPU 0 (2 of 5 ranks), which holds the model, needs 30.00 GiB, others 20.00 GiB",
    ),
    "the last": (kinds(OTHERS, FIRST), "GPU 0, which holds the model, needs 30.00 GiB, others 20.00 GiB"),
    "two exceed": (
        kinds(FIRST, OTHERS, replace(OTHERS, device=25 * GIB)),
        "GPU 0, which holds the model, needs 30.00 GiB, others 20.00 GiB",
    ),
    "others just fit": (
        kinds(FIRST, replace(OTHERS, device=JUST_FITS)),
        "GPU 0, which holds the model, needs 30.00 GiB, others 23.68 GiB",
    ),
    "just not": (
        kinds(replace(FIRST, device=JUST_NOT), OTHERS),
        "GPU 0, which holds the model, needs 23.68 GiB, others 20.00 GiB",
    ),
    "all exceed": (kinds(FIRST, replace(OTHERS, device=JUST_NOT)), None),
    "all fit": (kinds(replace(FIRST, device=JUST_FITS), OTHERS), None),
    "one kind": (kinds(), None),
    "no GPU": (Scope.of(run(jobs=(fsdp(),), gpu=None), [replace(WHOLE, ranks=(FIRST, OTHERS))]), None),
}


@pytest.mark.parametrize(("scope", "detail"), RANKS.values(), ids=RANKS)
def test_ranks_of_which_the_worst_exceeds(scope: Scope, detail: str | None) -> None:
    assert uneven_ranks(scope) == detail


def deepspeeds(
    total: int,
    micro: int,
    world: int | None,
    steps: int,
    *more: Fact,
    origin: Origin = Origin.WRITTEN,
    key: str = "train_micro_batch_size_per_gpu",
    kind: str = "training",
) -> Scope:
    facts = [
        fact("global_batch_size", total, line=2),
        fact("micro_batch_size", micro, line=3, key=key),
        fact("gradient_accumulation_steps", steps, line=4, origin=origin),
    ]
    facts += [fact("world_size", world, line=5)] if world else []
    return Scope.of(run(*facts, *more, jobs=(Job(LLAMA),), kind=kind), [])


TRAINER, ACCELERATE = fact("loop", "trainer"), fact("loop", "accelerate")
ASSUMED = fact("world_size", 8, origin=Origin.ASSUMED)
DECLARED = fact("world_size", 8, origin=Origin.ASSUMED, reason="declared")


def remarked(kind: str, subject: str) -> Scope:
    """Products that do not agree, and a remark on the files."""
    wrong = deepspeeds(64, 4, 8, 1)
    assert wrong.run is not None
    return wrong._replace(run=replace(wrong.run, remarks=(Remark(kind, subject, "it is odd", place(1)),)))


PRODUCTS = {
    "said twice": (remarked("contradicting-values", "train_micro_batch_size_per_gpu"), None),
    "steps said twice": (remarked("contradicting-values", "gradient_accumulation_steps"), None),
    "another said twice": (remarked("contradicting-values", "gradient_clipping"), "4 × 1 × 8 = 32, not 64"),
    "said oddly": (remarked("deprecated-key", "train_micro_batch_size_per_gpu"), "4 × 1 × 8 = 32, not 64"),
    "product": (deepspeeds(64, 4, 8, 2), None),
    "another product": (deepspeeds(64, 4, 8, 1), "4 × 1 × 8 = 32, not 64"),
    "any world": (deepspeeds(64, 4, None, 2), None),
    "no multiple": (deepspeeds(60, 8, None, 1), "60 is no multiple of 8 × 1"),
    "accumulates the rest": (deepspeeds(4096, 16, 8, 1, origin=Origin.DERIVED), None),
    "no share": (deepspeeds(96, 16, 8, 1, origin=Origin.DERIVED), "96 is no multiple of 16 × 8"),
    "derived in a trainer": (deepspeeds(64, 4, 8, 1, TRAINER, origin=Origin.DERIVED), None),
    "filled in by a trainer": (deepspeeds(64, 4, 8, 1, TRAINER, origin=Origin.DEFAULT), "4 × 1 × 8 = 32, not 64"),
    "filled in by Accelerate": (deepspeeds(64, 4, 8, 1, ACCELERATE, origin=Origin.DEFAULT), "4 × 1 × 8 = 32, not 64"),
    "filled in by nobody": (deepspeeds(64, 4, 8, 1, origin=Origin.DEFAULT), None),
    "an assumed world": (deepspeeds(64, 4, None, 1, ASSUMED), None),
    "a declared world": (deepspeeds(64, 4, None, 1, DECLARED), "4 × 1 × 8 = 32, not 64"),
    "shared sequences": (deepspeeds(32, 4, 8, 2, fact("context_parallel", 2)), None),
    "shared by nobody": (deepspeeds(64, 4, 8, 2, fact("context_parallel", 0)), None),
    "shared unevenly": (deepspeeds(60, 8, 8, 1, fact("tensor_parallel", 3)), "60 is no multiple of 8 × 1"),
    "no batch": (deepspeeds(64, 0, None, 1), "64 is no multiple of 0 × 1"),
    "another's key": (deepspeeds(64, 4, 8, 1, key="batch_size"), None),
    "a trainer's key": (deepspeeds(64, 4, 8, 1, TRAINER, key="batch_size"), "4 × 1 × 8 = 32, not 64"),
    "Accelerate's key": (deepspeeds(64, 4, 8, 1, ACCELERATE, key="batch_size"), "4 × 1 × 8 = 32, not 64"),
    "a configuration alone": (deepspeeds(64, 4, 8, 1, key="batch_size", kind="data"), "4 × 1 × 8 = 32, not 64"),
}


@pytest.mark.parametrize(("scope", "detail"), PRODUCTS.values(), ids=PRODUCTS)
def test_batch_products(scope: Scope, detail: str | None) -> None:
    assert batch_product_mismatch(scope) == detail


def secondary(size: int, world: Fact | int, machine: int | None = None, stage: int = 3) -> Scope:
    facts = [fact("hpz_partition_size", size), fact("zero_stage", stage)]
    facts += [world if isinstance(world, Fact) else fact("world_size", world)]
    facts += [fact("gpus_per_node", machine)] if machine else []
    return Scope.of(run(*facts, jobs=(zero(),)), [])


CUT = "GPUs cannot be cut into groups of"
UNEVEN = {
    "three of eight": (secondary(3, 8), f"8 {CUT} 3: the engine stops with an assertion"),
    "pairs of seven": (secondary(2, 7), f"7 {CUT} 2: the engine stops with an assertion"),
    "a declared world": (secondary(3, DECLARED), f"8 {CUT} 3: the engine stops with an assertion"),
    "four of eight": (secondary(4, 8), None),
    "more than there are": (secondary(16, 8), None),
    "none": (secondary(0, 8), None),
    "stage 2": (secondary(3, 8, stage=2), None),
    "an assumed world": (secondary(3, ASSUMED), None),
}


@pytest.mark.parametrize(("scope", "detail"), UNEVEN.values(), ids=UNEVEN)
def test_groups_of_unlike_size(scope: Scope, detail: str | None) -> None:
    assert uneven_secondary_partition(scope) == detail


WIDE = {
    "eight on machines of four": (secondary(8, 16, 4), "groups of 8 on machines with 4 GPUs"),
    "all on machines of four": (secondary(32, 8, 4), "groups of 8 on machines with 4 GPUs"),
    "four on machines of eight": (secondary(4, 16, 8), None),
    "of unlike size": (secondary(3, 8, 4), None),
    "a part of a machine": (secondary(4, 8, 10), None),
    "stage 2": (secondary(8, 16, 4, stage=2), None),
    "an assumed world": (secondary(8, ASSUMED, 4), None),
    "machines of unknown size": (secondary(8, 16), None),
}


@pytest.mark.parametrize(("scope", "detail"), WIDE.values(), ids=WIDE)
def test_groups_that_reach_over_machines(scope: Scope, detail: str | None) -> None:
    assert wide_secondary_partition(scope) == detail


@pytest.mark.parametrize(
    ("divided", "keys"),
    [
        ("gpt-neox", "pipe_partition_method"),
        ("dtensor", "pipeline_parallel_first_stage_less_layers"),
        (None, "--decoder-first-pipeline-num-layers"),
    ],
)
def test_the_keys_of_stages_are_those_of_the_framework(divided: str | None, keys: str) -> None:
    said = (fact("divided_by", divided),) if divided else ()
    assert keys in str(Scope.of(run(*said), []).lookup("run.stage_keys"))

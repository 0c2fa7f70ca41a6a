from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from tests.engine.builders import GIB, GPU, estimate, fact, place, run
from vramlint.engine import check, check_problems, contributions, load_rules
from vramlint.facts import FactValue, Remark
from vramlint.findings import Finding, Fix, Severity
from vramlint.job import Batch, Gpu, Job, Model, Parallelism, Precision
from vramlint.resolve.run import Run
from vramlint.values import Problem

RULES = load_rules().choose()

FULL_TUNE = run(
    fact("model", "meta-llama/Llama-2-7b-hf", line=3),
    fact("optimizer", "adamw_torch", line=7),
    fact("micro_batch_size", 4, line=6),
    fact("sequence_length", 2048, line=5),
)


def codes(findings: Iterable[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_what_never_fits_is_an_error_with_labels_on_each_cause() -> None:
    needs = estimate(80, outside=0.3, weights=12.5, optimizer_states=50, activations=17, rounding=0.5)
    (finding,) = check(FULL_TUNE, [needs], RULES)
    assert (finding.code, finding.severity) == ("VRAM101", Severity.ERROR)
    assert finding.message == "the training step needs 80.30 GiB of GPU memory, RTX 3090 offers 23.68 GiB"
    assert [(label.place.span.line, label.text, label.primary) for label in finding.labels] == [
        (7, "50.00 GiB of optimizer states", True),
        (6, "17.00 GiB of activations", False),
        (5, "sequence length", False),
        (3, "12.50 GiB of weights", False),
    ]
    assert finding.estimate is needs
    assert finding.low is None


def test_without_written_causes_the_finding_points_at_the_run() -> None:
    (finding,) = check(run(anchor=place(9)), [estimate(80)], RULES)
    assert finding.place == place(9)
    (finding,) = check(run(), [estimate(80)], RULES)
    assert (finding.place.span.line, finding.place.span.column) == (1, 1)


def batches(*sizes: int) -> tuple[Job, ...]:
    return tuple(
        Job(Model("m", "llama"), batch=Batch(size, length), gpu=GPU) for size in sizes for length in (512, 2048)
    )


def test_what_may_not_fit_is_a_warning_that_names_the_unknowns() -> None:
    subject = run(
        fact("micro_batch_size", 1, 8, line=6),
        fact("sequence_length", 512, 2048, reason="depends on the data"),
        jobs=batches(1, 8),
        open_facts=("micro_batch_size", "sequence_length"),
    )
    needs = [estimate(10), estimate(12), estimate(20), estimate(40)]
    assert contributions(subject, needs) == (("micro_batch_size", 28 * GIB), ("sequence_length", 20 * GIB))
    (finding,) = check(subject, needs, RULES)
    assert (finding.code, finding.severity) == ("VRAM102", Severity.WARNING)
    assert "10.00 to 40.00 GiB" in finding.message
    assert finding.labels[0].text == "micro batch size may be 1 or 8"
    assert finding.notes == (
        "micro batch size is open and accounts for 28.00 GiB of the range",
        "sequence length is open (depends on the data) and accounts for 20.00 GiB of the range",
    )
    assert (finding.estimate, finding.low) == (needs[3], needs[0])


def test_what_hardly_matters_is_not_blamed() -> None:
    subject = run(
        fact("micro_batch_size", 1, 8, line=6),
        fact("sequence_length", 512, 2048, line=7),
        jobs=batches(1, 8),
        open_facts=("micro_batch_size", "sequence_length"),
    )
    (finding,) = check(subject, [estimate(10), estimate(40), estimate(10.001), estimate(40.1)], RULES)
    assert "depending on sequence length;" in finding.message
    assert finding.labels[0].text == "sequence length may be 512 or 2048"
    assert len(finding.notes) == 2


@pytest.mark.parametrize(
    ("allocated", "reserved", "expected"),
    [(10, 12, []), (22, 23, ["VRAM103"]), (22, 25, ["VRAM103"]), (23.6, 23.68, ["VRAM103"]), (23.7, 24, ["VRAM101"])],
)
def test_close_to_the_limit(allocated: float, reserved: float, expected: list[str]) -> None:
    assert codes(check(run(), [estimate(allocated, reserved)], RULES)) == expected


def test_a_run_that_fits_gets_no_advice() -> None:
    assert check(FULL_TUNE, [estimate(10)], RULES, planner=lambda *_: pytest.fail("planned")) == ()


def test_the_plan_is_made_for_the_job_that_needs_the_most() -> None:
    fix = Fix(steps=(), peak=1, fits=True)
    asked: list[tuple[Job, Gpu]] = []
    jobs = batches(1)

    def planner(_run: Run, job: Job, gpu: Gpu) -> Fix:
        asked.append((job, gpu))
        return fix

    (finding,) = check(run(jobs=jobs), [estimate(50), estimate(40)], RULES, planner)
    assert finding.fix is fix
    assert asked == [(jobs[0], GPU)]


def test_where_nothing_helps_the_smallest_gpus_are_named() -> None:
    (finding,) = check(run(), [estimate(60)], RULES, planner=lambda *_: None)
    assert finding.help[-1].startswith("the smallest common GPUs on which it fits unchanged: ")
    assert "80" in finding.help[-1]


def test_the_high_end_of_an_unresolved_run_gets_no_half_plan() -> None:
    nearest_miss, whole = Fix(steps=(), peak=60 * GIB, fits=False), Fix(steps=(), peak=20 * GIB, fits=True)
    for unresolved, fix, expected in (
        (("sequence_length",), nearest_miss, None),
        ((), nearest_miss, nearest_miss),
        (("sequence_length",), whole, whole),
    ):
        (finding,) = check(run(unresolved=unresolved), [estimate(900)], RULES, planner=lambda *_, fix=fix: fix)
        assert finding.fix is expected
        assert finding.help == ()


def test_without_a_gpu_only_rules_that_need_none_speak() -> None:
    subject = run(fact("bf16", True, line=4), fact("fp16", True, line=5), gpu=None)
    (finding,) = check(subject, [estimate(500)], RULES)
    assert finding.code == "VRAM201"
    assert [label.text for label in finding.labels] == ["bf16 is switched on here", "and fp16 here"]


def test_unknown_facts_give_no_finding() -> None:
    assert check(run(fact("bf16", True, False, line=4), fact("fp16", True, line=5)), [], RULES) == ()
    assert check(run(fact("fp16", True, line=5)), [], RULES) == ()


def test_one_cause_gives_one_finding() -> None:
    remark = Remark("conflicting-keys", "bf16.enabled", "both", place(4))
    subject = run(fact("bf16", True, line=4), fact("fp16", True, line=5), remarks=(remark, remark))
    assert codes(check(subject, [], RULES)) == ["VRAM201"]
    only_remark = run(remarks=(remark, remark), kind="data")
    assert codes(check(only_remark, [], RULES)) == ["VRAM201"]


@pytest.mark.parametrize(("vocabulary", "code"), [("training-arguments", "VRAM801"), ("deepspeed", "VRAM802")])
def test_remarks_go_to_the_rule_of_their_vocabulary(vocabulary: str, code: str) -> None:
    remark = Remark("unknown-key", "zero_optimisation", "unknown key", place(2), "zero_optimization", vocabulary)
    (finding,) = check(run(remarks=(remark,)), [], RULES)
    assert (finding.code, finding.message) == (code, "unknown key")
    assert finding.labels[0].text == "did you mean `zero_optimization`?"


@pytest.mark.parametrize(
    ("kind", "code"),
    [("syntax-error", "VRAM808"), ("not-utf8", "VRAM903"), ("too-large", "VRAM903"), ("empty-file", "VRAM904")],
)
def test_problems(kind: str, code: str) -> None:
    (finding,) = check_problems([Problem(kind, "says why", place(1))], RULES)
    assert (finding.code, finding.message, finding.place) == (code, "says why", place(1))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((16, 4, 2, 2), None),
        ((16, 4, 1, 2), "4 × 1 × 2 = 8, not 16"),
        ((16, 4, 1), None),
        ((18, 4, 1), "18 is no multiple of 4 × 1"),
        ((18, 0, 1), "18 is no multiple of 0 × 1"),
        (("auto", 4, 1, 2), None),
        ((16, "auto", 1, 2), None),
    ],
)
def test_batch_product(values: tuple[FactValue, ...], said: str | None) -> None:
    names = ("global_batch_size", "micro_batch_size", "gradient_accumulation_steps", "world_size")
    facts = [fact(name, value, line=index) for index, (name, value) in enumerate(zip(names, values, strict=False), 1)]
    messages = [finding.message for finding in check(run(*facts, kind="data"), [], RULES)]
    assert messages == ([f"the batch sizes contradict each other: {said}"] if said else [])


def test_batch_product_counts_gpus_that_share_a_sequence_once() -> None:
    values = {"global_batch_size": 8, "micro_batch_size": 4, "gradient_accumulation_steps": 1, "world_size": 4}
    facts = [fact(name, value, line=index) for index, (name, value) in enumerate(values.items(), 1)]
    assert codes(check(run(*facts, kind="data"), [], RULES)) == ["VRAM601"]
    assert codes(check(run(*facts, fact("context_parallel", 2, line=9), kind="data"), [], RULES)) == []
    assert codes(check(run(*facts, fact("pipeline_parallel", 2, line=9), kind="data"), [], RULES)) == []


def test_batch_product_of_a_hand_written_loop_is_deepspeeds_own() -> None:
    values = {"global_batch_size": 16, "gradient_accumulation_steps": 1, "world_size": 2}
    facts = [fact(name, value, line=index) for index, (name, value) in enumerate(values.items(), 1)]
    facts.append(fact("loop", "script", line=8))
    loader = replace(fact("micro_batch_size", 4, line=9), key="batch_size")
    assert codes(check(run(*facts, loader), [], RULES)) == []
    written = replace(loader, key="train_micro_batch_size_per_gpu")
    assert codes(check(run(*facts, written), [], RULES)) == ["VRAM601"]


def test_facts_that_change_together_have_one_part_of_the_range() -> None:
    alone, shared = (Job(Model("m", "llama"), parallelism=way) for way in (Parallelism(), Parallelism(8, "fsdp")))
    jobs = tuple(
        replace(job, precision=Precision(weights=dtype)) for job in (alone, shared) for dtype in ("bfloat16", "float32")
    )
    subject = run(jobs=jobs, open_facts=("load_dtype", "world_size", "parallelism"))
    needs = [estimate(size, method="bounded") for size in (15, 31, 2, 4)]
    assert contributions(subject, needs) == (("world_size", 27 * GIB), ("load_dtype", 16 * GIB))
    finding = next(finding for finding in check(subject, needs, RULES) if finding.code == "VRAM102")
    assert "needs 2.00 to at least 31.00 GiB of GPU memory depending on world size, load dtype" in finding.message


def test_hardware_rules() -> None:
    old = replace(GPU, name="Tesla T4", bf16=False, compute_capability=(7, 5))
    subject = run(fact("bf16", True, line=1), fact("attention_implementation", "flash_attention_2", line=2), gpu=old)
    found = {finding.code: finding for finding in check(subject, [], RULES)}
    assert found["VRAM202"].labels[0].text == "Tesla T4 has no bfloat16 units"
    assert found["VRAM702"].message == "FlashAttention 2 needs compute capability 8.0, Tesla T4 has 7.5"
    assert check(replace(subject, gpu=GPU), [], RULES) == ()


def test_unresolved_and_bounded_runs_are_not_silent() -> None:
    unresolved = check(run(unresolved=("model",), jobs=()), [], RULES)
    assert codes(unresolved) == ["VRAM905"]
    assert codes(check(run(), [estimate(5, method="bounded")], RULES)) == ["VRAM907"]
    (bounded,) = check(run(), [estimate(50, method="bounded")], RULES)
    assert bounded.code == "VRAM101"
    assert "needs at least 50.00 GiB" in bounded.message
    assert bounded.help == ()

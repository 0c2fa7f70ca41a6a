from __future__ import annotations

from typing import Any

import pytest

from bench.comparison import ACCEPTED, LEFT_TO_TRAINER, NAMES, canonical, compare
from vramlint.facts import NAMES as FACT_NAMES

VERSIONS = {"transformers": "5.23.0", "trl": "0.18.2"}


def fact(*values: object, origin: str = "written", line: int | None = None, reason: str = "") -> dict[str, Any]:
    location = {"path": "train.py", "line": line, "column": 1, "end_line": line, "end_column": 9} if line else None
    candidates = [{"value": value} for value in values]
    return {"origin": origin, "candidates": candidates, "location": location, "reason": reason}


def expected(value: object, line: int | None = None, origin: str = "explicit") -> dict[str, Any]:
    return {"value": value, "line": line, "origin": origin}


def test_names_are_facts_of_the_product() -> None:
    assert set(NAMES.values()) <= set(FACT_NAMES)


def test_accepted_values_are_canonical() -> None:
    assert ACCEPTED.keys() <= NAMES.keys()
    for row in ACCEPTED.values():
        for value, same in row.items():
            assert canonical(value) == value
            assert all(canonical(other) == other for other in same)
    assert all(canonical(value) == value for value in LEFT_TO_TRAINER)


@pytest.mark.parametrize(
    ("name", "value", "ours", "verdict"),
    [
        ("micro_batch_size", 4, fact(4), "right"),
        ("micro_batch_size", 4, fact(8), "wrong"),
        ("micro_batch_size", 4, fact(4, 8), "missing"),
        ("micro_batch_size", 4, fact(origin="unknown"), "missing"),
        ("micro_batch_size", 4, None, "missing"),
        ("micro_batch_size", "auto", fact(origin="unknown"), "right"),
        ("micro_batch_size", "auto", fact(8), "wrong"),
        ("reduce_bucket_size", 200000000, fact(2e8), "right"),
        ("lora_targets", ["q_proj", "v_proj"], fact(["v_proj", "q_proj"]), "right"),
        ("lora_targets", "all linear", fact("all-linear"), "right"),
        ("train_precision", "bf16 with fp32 master", fact("bf16-mixed"), "right"),
        ("train_precision", "bf16 with fp32 master", fact("bf16-pure"), "wrong"),
        ("optimizer", "DeepSpeedCPUAdam", fact("deepspeed_cpu_adam"), "right"),
        ("optimizer", "adamw_torch", fact("adamw_torch_fused"), "wrong"),
        ("grad_checkpointing", "full", fact(True), "right"),
        ("grad_checkpointing", True, fact(False), "wrong"),
        ("attn_impl", "default (no flash)", fact("sdpa", "eager"), "right"),
        ("n_gpus", None, fact(1, origin="assumed"), "right"),
        ("n_gpus", None, fact(1, 8), "right"),
        ("n_gpus", None, None, "right"),
        ("n_gpus", None, fact(8), "wrong"),
        ("load_dtype", {"transformers<5": "float32", "transformers>=5": "auto"}, fact("auto"), "right"),
        ("load_dtype", {"transformers<5": "float32", "transformers>=5": "auto"}, fact("float32"), "wrong"),
        ("load_dtype", "auto", fact("float16", origin="derived", reason="dtype is auto: the checkpoint's"), "right"),
        ("load_dtype", "auto", fact("float16", origin="derived", reason="the checkpoint's"), "wrong"),
        ("train_precision", {"trl<0.19": "bf16-pure", "trl>=0.19": "bf16-mixed"}, fact("bf16-pure"), "right"),
        ("optimizer", {"peft<1": "adamw_torch", "peft>=1": "sgd"}, fact("sgd"), "right"),
        ("no such name", 4, fact(4), "right"),
    ],
)
def test_verdicts(name: str, value: object, ours: dict[str, Any] | None, verdict: str) -> None:
    assert compare(name, expected(value), ours, VERSIONS).verdict == verdict


def test_only_what_is_said_to_be_written_is_a_claim() -> None:
    assert compare("lora_r", expected(8), fact(16), VERSIONS).claimed
    assert compare("n_gpus", expected(None), fact(8), VERSIONS).claimed
    assert not compare("lora_r", expected(8), fact(16, origin="default"), VERSIONS).claimed
    assert not compare("lora_r", expected(8), fact(8), VERSIONS).claimed


@pytest.mark.parametrize(("line", "right"), [(12, True), (13, False), (None, False)])
def test_spans(line: int | None, right: bool) -> None:
    outcome = compare("lora_r", expected(8, line=12), fact(8, line=line), VERSIONS)
    assert outcome.span_expected
    assert outcome.span_right is right


def test_a_default_has_no_span_to_find() -> None:
    outcome = compare("lora_r", expected(8, line=12, origin="default"), fact(8, origin="default"), VERSIONS)
    assert not outcome.span_expected

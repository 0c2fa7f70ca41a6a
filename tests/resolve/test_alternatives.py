"""One of several DeepSpeed configurations, as the program chooses."""

from __future__ import annotations

import json

import pytest

from tests.api.test_launching import check
from vramlint.facts import Candidate, Fact, Link, Origin
from vramlint.resolve.alternatives import Alternative, choices_of, either

PROGRAM = """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
args = TrainingArguments(output_dir="out", per_device_train_batch_size=4, bf16=True, deepspeed=CHOSEN)
Trainer(model=model, args=args, train_dataset=dataset).train()
"""
EITHER = '"a.json" if big() else "b.json"'


def files(chosen: str, first: int, second: int) -> dict[str, str]:
    offloaded = {"stage": 3, "offload_optimizer": {"device": "cpu"}}
    return {
        "train.py": PROGRAM.replace("CHOSEN", chosen),
        "a.json": json.dumps({"train_micro_batch_size_per_gpu": first, "zero_optimization": {"stage": 2}}),
        "b.json": json.dumps({"train_micro_batch_size_per_gpu": second, "zero_optimization": offloaded}),
    }


def values(chosen: str) -> dict[str, set[object]]:
    (job,) = check(files(chosen, 4, 4), "train.py").jobs
    return {fact.name: {item.value for item in fact.candidates} for fact in job.facts}


def test_either_file_may_be_in_force() -> None:
    found = values(EITHER)
    assert found["zero_stage"] == {2, 3}
    assert found["offload_optimizer"] == {"none", "cpu"}
    assert found["micro_batch_size"] == {4}
    assert found["optimizer"] == {"adamw_torch_fused", "deepspeed_cpu_adam"}
    assert values('"b.json"')["zero_stage"] == {3}


def test_the_range_is_that_of_both() -> None:
    both, first, second = (
        check(files(chosen, 4, 4), "train.py").jobs[0] for chosen in (EITHER, '"a.json"', '"b.json"')
    )
    assert both.low is not None
    assert both.high is not None
    assert both.low.device_low == min(one.low.device_low for one in (first, second) if one.low is not None)
    assert both.high.device == max(one.high.device for one in (first, second) if one.high is not None)


@pytest.mark.parametrize(
    ("chosen", "first", "second", "spoken"),
    [(EITHER, 2, 4, 0), (EITHER, 2, 2, 2), ('"a.json"', 2, 4, 1), (EITHER, 4, 4, 0)],
)
def test_a_contradiction_is_one_only_where_no_file_does_without(
    chosen: str, first: int, second: int, spoken: int
) -> None:
    report = check(files(chosen, first, second), "train.py")
    assert len([finding for finding in report.findings if finding.code == "VRAM810"]) == spoken


def test_choices_are_decided_by_conditions_alone() -> None:
    links = [Link("deepspeed", "a.json"), Link("deepspeed", "b.json")]
    open_name = Fact("deepspeed_config", (Candidate("a.json"), Candidate("b.json")), Origin.WRITTEN)
    decided = Fact("deepspeed_config", (Candidate("a.json", None, "x"), Candidate("b.json", None, "y")), Origin.WRITTEN)
    assert not choices_of(open_name, links)
    assert not choices_of(None, links)
    assert not choices_of(decided, links[:1])
    assert choices_of(decided, links) == [("x", links[0]), ("y", links[1])]


def test_what_one_file_leaves_unknown_is_unknown() -> None:
    known = Fact("zero_stage", (Candidate(2),), Origin.WRITTEN)
    unknown = Fact("zero_stage", (), Origin.UNKNOWN)
    found = either([Alternative("x", {"zero_stage": known}, {}), Alternative("not (x)", {"zero_stage": unknown}, {})])
    assert found == {"zero_stage": unknown}
    same = either([Alternative("x", {"zero_stage": known}, {}), Alternative("not (x)", {}, {"zero_stage": 2})])
    assert same == {"zero_stage": known}

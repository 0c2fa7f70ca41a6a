from __future__ import annotations

import pytest

from vramlint.facts import Candidate, Fact, Origin, Remark
from vramlint.surfaces.convert import CONVERTERS, Outcome
from vramlint.surfaces.draft import Arguments, Draft, conditional, draw, stated, united
from vramlint.text import Place, Span
from vramlint.values import Alternatives, Call, Entry, Items, Keyword, Name, Option, Scalar, Table, Unknown, Value


def at(line: int) -> Place:
    return Place("train.py", Span(line, 1, line, 5))


@pytest.mark.parametrize(
    ("converter", "value", "expected"),
    [
        ("flag", Scalar(True), True),
        ("flag", Scalar(0), False),
        ("flag", Scalar("yes"), Outcome.WRONG_TYPE),
        ("flag", Scalar(None), Outcome.ABSENT),
        ("switch", Scalar("unsloth"), True),
        ("count", Scalar(8), 8),
        ("count", Scalar(32.0), 32),
        ("count", Scalar(True), Outcome.WRONG_TYPE),
        ("count", Scalar("eight"), Outcome.WRONG_TYPE),
        ("count", Scalar("auto"), "auto"),
        ("bound", Scalar(None), Outcome.OPAQUE),
        ("dtype", Name("torch.bfloat16"), "bfloat16"),
        ("dtype", Name("torch.half"), "float16"),
        ("dtype", Scalar("torch.float32"), "float32"),
        ("dtype", Scalar("bf17"), Outcome.WRONG_TYPE),
        ("dtype", Name("numpy.float32"), Outcome.OPAQUE),
        ("names", Items((Scalar("q_proj"), Scalar("v_proj"))), ("q_proj", "v_proj")),
        ("names", Scalar("all-linear"), "all-linear"),
        ("names", Items((Scalar("q_proj"), Unknown("x"))), Outcome.OPAQUE),
        ("name", Name("transformers.training_args.OptimizerNames.ADAMW_8BIT"), "adamw_8bit"),
        ("device-map", Table((Entry("", None, Scalar(0)),)), "single"),
        ("device-map", Scalar("auto"), "auto"),
        ("fsdp", Scalar(""), Outcome.ABSENT),
        ("four-bit", Scalar(True), 4),
        ("four-bit", Scalar(False), Outcome.ABSENT),
    ],
)
def test_converters(converter: str, value: Value, expected: object) -> None:
    assert CONVERTERS[converter](value) == expected


def test_a_known_value_keeps_its_place_and_road() -> None:
    fact = draw("micro_batch_size", Scalar(4, at(7), "argparse-default"), CONVERTERS["count"], "batch")
    assert fact == Fact("micro_batch_size", (Candidate(4, at(7)),), Origin.WRITTEN, "batch", "argparse-default")


def test_an_undecided_branch_gives_both_values_with_their_conditions() -> None:
    value = Alternatives((Option(Scalar(1, at(1)), "big"), Option(Scalar(8, at(2)), "not (big)")))
    fact = draw("micro_batch_size", value, CONVERTERS["count"])
    assert isinstance(fact, Fact)
    assert fact.candidates == (Candidate(1, at(1), "big"), Candidate(8, at(2), "not (big)"))
    assert not fact.known


def test_equal_alternatives_are_one_value_without_condition() -> None:
    value = Alternatives((Option(Scalar(8, at(1)), "a"), Option(Scalar(8, at(2)), "b")))
    fact = draw("micro_batch_size", value, CONVERTERS["count"])
    assert isinstance(fact, Fact)
    assert fact.candidates == (Candidate(8, at(1)),)


def test_one_unknown_possibility_makes_the_fact_unknown() -> None:
    value = Alternatives((Option(Scalar(8), "a"), Option(Unknown("environment variable B", at(3)), "b")))
    fact = draw("micro_batch_size", value, CONVERTERS["count"])
    assert isinstance(fact, Fact)
    assert fact.origin is Origin.UNKNOWN
    assert fact.reason == "environment variable B (line 3)"


def test_a_branch_that_leaves_the_key_out_is_a_candidate_without_value() -> None:
    value = Alternatives((Option(Scalar(True, at(1)), "fp16"), Option(Unknown("not given"), "not (fp16)")))
    fact = draw("fp16", value, CONVERTERS["flag"])
    assert isinstance(fact, Fact)
    assert [item.value for item in fact.candidates] == [True, None]


def test_a_wrong_type_is_a_remark_at_the_value() -> None:
    remark = draw("micro_batch_size", Scalar("eight", at(4)), CONVERTERS["count"], "per_device_train_batch_size")
    assert isinstance(remark, Remark)
    assert (remark.kind, remark.subject, remark.place) == ("wrong-type", "per_device_train_batch_size", at(4))


def test_none_is_as_good_as_not_given() -> None:
    assert draw("micro_batch_size", Scalar(None, at(4)), CONVERTERS["count"]) is None


def test_a_conditional_fact_may_not_hold() -> None:
    fact = conditional(stated("torch_compile", True, at(1)), ("fast",))
    assert [(item.value, item.condition) for item in fact.candidates] == [(True, "fast"), (None, "not (fast)")]


def test_united_keeps_what_only_some_runs_say_open() -> None:
    fact = united([stated("fp16", True, at(1)), None])
    assert fact is not None
    assert [item.value for item in fact.candidates] == [True, None]


def test_merged_drafts_carry_the_condition_of_each() -> None:
    one, two = Draft(), Draft()
    one.put(stated("model", "gpt2", at(1)))
    two.put(stated("model", "gpt2-xl", at(2)))
    fact = Draft.merged([one, two], ["small", "not (small)"]).facts["model"]
    assert [(item.value, item.condition) for item in fact.candidates] == [("gpt2", "small"), ("gpt2-xl", "not (small)")]


def test_arguments_see_later_assignments_and_nested_keys() -> None:
    table = Table((Entry("use_reentrant", None, Scalar(False)),))
    call = Call(
        "transformers.TrainingArguments",
        (),
        (Keyword("fp16", Scalar(False)), Keyword("gradient_checkpointing_kwargs", table)),
        at(1),
        bindings=(Keyword("fp16", Scalar(True)),),
    )
    arguments = Arguments.of(call)
    assert arguments.value("fp16") == Scalar(True)
    assert arguments.value("gradient_checkpointing_kwargs.use_reentrant") == Scalar(False)
    assert arguments.value("gradient_checkpointing_kwargs.other") is None

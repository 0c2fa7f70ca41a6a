"""Conditions that the trainer's flags decide, and versions that the keys in use bound."""

from __future__ import annotations

import pytest

from tests.resolve.making import LLAMA, files, place, run, script, unknown, written
from vramlint.facts import Origin
from vramlint.resolve.conditions import contradicts
from vramlint.values import Entry, Scalar, Table


@pytest.mark.parametrize(
    ("condition", "held", "expected"),
    [
        ("a", "not a", True),
        ("not a", "a and b", True),
        ("not (a or b)", "a or b", True),
        ("a and not b", "b", True),
        ("a", "b", False),
        ("not (a and b)", "a", False),
        ("not (a and b)", "a and b", True),
        ("a and b and c", "not (b and a)", True),
        ("not (a and b)", "a and not b", False),
        ("", "a", False),
    ],
)
def test_contradictions(condition: str, held: str, expected: bool) -> None:
    assert contradicts(condition, (held,)) is expected


@pytest.mark.parametrize(("bf16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_flags_of_the_trainer_decide(bf16: bool, dtype: str) -> None:
    conditions = ("training_args.bf16", "not training_args.bf16")
    fact = written("load_dtype", "bfloat16", "float32", conditions=conditions)
    found = run(script(LLAMA, written("bf16", bf16), fact)).get("load_dtype")
    assert found is not None
    assert found.value == dtype


def test_default_flags_decide_too() -> None:
    conditions = ("args.fp16", "not args.fp16 and args.bf16", "not args.fp16 and not args.bf16")
    fact = written("load_dtype", "float16", "bfloat16", "float32", conditions=conditions)
    found = run(script(LLAMA, fact)).get("load_dtype")
    assert found is not None
    assert found.value == "float32"


def test_other_conditions_stay_open() -> None:
    fact = written("load_dtype", "bfloat16", "float32", conditions=("use_bf16", "not use_bf16"))
    found = run(script(LLAMA, fact))
    assert found.open_facts[:1] == ("load_dtype",)


def test_attribute_of_a_librarys_own_arguments_has_their_default() -> None:
    fact = unknown("load_dtype", "attribute dtype of trl.ModelConfig (line 76)")
    found = run(script(LLAMA, fact)).get("load_dtype")
    assert found is not None
    assert (found.value, found.origin, found.library) == ("float32", Origin.DEFAULT, "trl 1.16.0")


def _arguments(*keys: str) -> tuple[tuple[str, Table], ...]:
    entries = tuple(Entry(key, place(line), Scalar(1, place(line))) for line, key in enumerate(keys, 2))
    return (("training-arguments", Table(entries)),)


def test_dropped_key_dates_an_unpinned_run() -> None:
    found = run(script(LLAMA, tables=_arguments("evaluation_strategy")), files({}))
    version = next(item for item in found.versions if item.library == "transformers")
    assert version.version < (5,)
    assert version.source == "newest known with evaluation_strategy"
    assert found.remarks == ()


def test_dropped_key_is_remarked_under_a_pin() -> None:
    context = files({"requirements.txt": "transformers==5.23.0\n"})
    (remark,) = run(script(LLAMA, tables=_arguments("evaluation_strategy")), context).remarks
    assert (remark.kind, remark.suggestion) == ("removed-key", "eval_strategy")


@pytest.mark.parametrize(
    ("trainer", "argument", "library", "before"),
    [
        ("Trainer", "tokenizer", "transformers", (5, 0, 0)),
        ("SFTTrainer", "tokenizer", "trl", (0, 16, 0)),
        ("SFTTrainer", "max_seq_length", "trl", (0, 13, 0)),
        ("DPOTrainer", "beta", "trl", (0, 13, 0)),
    ],
)
def test_dropped_argument_of_a_trainer_dates_the_run(
    trainer: str, argument: str, library: str, before: tuple[int, ...]
) -> None:
    table = Table((Entry(argument, place(), Scalar(1, place())),))
    found = run(script(LLAMA, tables=((trainer, table),)), files({}))
    version = next(item for item in found.versions if item.library == library)
    assert version.version < before
    assert version.source == f"newest known with {argument}"
    assert found.remarks == ()


def test_keys_that_never_met_bound_nothing() -> None:
    found = run(script(LLAMA, tables=_arguments("evaluation_strategy", "activation_checkpointing")), files({}))
    version = next(item for item in found.versions if item.library == "transformers")
    assert version.source == "newest known"
    assert [remark.kind for remark in found.remarks] == ["removed-key"]


def test_evaluation_counts_only_where_it_happens() -> None:
    facts = (LLAMA, written("micro_batch_size", 1), written("sequence_length", 64), written("load_dtype", "float32"))
    for strategy, size in (("no", None), ("steps", 8)):
        table = Table((Entry("eval_strategy", place(), Scalar(strategy, place())),))
        (job,) = run(script(*facts, tables=(("training-arguments", table),))).jobs
        assert (job.evaluation.micro_batch_size if job.evaluation else None) == size

"""Recipes: TrainingArguments, TRL and model keys in one flat YAML file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.resolve.making import NEWEST, files, run
from vramlint.facts import Sheet
from vramlint.readers.yaml import read_yaml
from vramlint.resolve import resolve
from vramlint.surfaces import deepspeed_sheet, training_arguments_sheet
from vramlint.text import Document, Place, Span
from vramlint.values import Entry, Items, Scalar, Table, Value

QLORA = """\
model_name_or_path: mistralai/Mistral-7B-v0.1
torch_dtype: bfloat16
load_in_4bit: true
use_peft: true
max_length: 2048
per_device_train_batch_size: 4
output_dir: out
dataset_mixer: x
"""


def sheet_of(text: str, path: str = "recipes/config.yaml") -> Sheet:
    root = read_yaml(Document.of(path, text)).root
    assert isinstance(root, Table)
    return training_arguments_sheet(path, root, "training-args-yaml")


def test_model_config_has_its_own_defaults() -> None:
    found = run(sheet_of(QLORA + "packing: false\n"))
    assert found.kind == "training"
    says = {fact.name: fact.value for fact in found.facts}
    assert (says["tuning"], says["quantization_type"], says["lora_r"], says["lora_alpha"]) == ("qlora", "nf4", 16, 32)
    assert {job.batch.sequence_length for job in found.jobs} == {2048}
    assert found.remarks == ()


@pytest.mark.parametrize(
    ("declared", "ends"),
    [(None, {(1, "none"), (8, "fsdp")}), (8, {(8, "ddp"), (8, "fsdp")}), (1, {(1, "none")})],
    ids=["nothing declared", "8 GPUs", "1 GPU"],
)
def test_only_the_launcher_knows_how_a_recipe_is_shared(declared: int | None, ends: set[tuple[int, str]]) -> None:
    found = run(sheet_of(QLORA), files({}, versions=NEWEST, world_size=declared))
    assert {(job.parallelism.world_size, job.parallelism.strategy) for job in found.jobs} == ends


@pytest.mark.parametrize("key", ["max_length", "per_device_train_batch_size"])
def test_numbers_below_one_leave_a_job_to_simulate(key: str) -> None:
    value = QLORA.partition(f"{key}: ")[2].partition("\n")[0]
    found = run(sheet_of(QLORA.replace(f"{key}: {value}", f"{key}: -1")))
    assert {job.batch.micro_batch_size * job.batch.sequence_length for job in found.jobs} <= {4, 2048}
    assert found.jobs


def test_recipe_without_a_model_is_data() -> None:
    found = run(sheet_of("per_device_train_batch_size: 4\noutput_dir: out\n"))
    assert (found.kind, found.jobs) == ("data", ())


def test_close_misspelling_in_a_recipe() -> None:
    (remark,) = run(sheet_of(QLORA + "gradient_acumulation_steps: 2\n")).remarks
    assert (remark.kind, remark.suggestion) == ("unknown-key", "gradient_accumulation_steps")


@pytest.mark.parametrize(
    ("more", "kinds"),
    [
        ("model_name_or_path: openai-community/gpt2\ndataset_name: some/data\n", ["removed-key"]),
        ("model_name: openai-community/gpt2\nkeep_last_tokens: true\n", []),  # a program with keys of its own reads it
    ],
)
def test_keys_of_other_releases_only_where_the_libraries_read_the_file(more: str, kinds: list[str]) -> None:
    sheet = sheet_of(f"{more}per_device_train_batch_size: 1\nmax_seq_length: 512\n")
    assert [remark.kind for remark in run(sheet, trl="0.24.0").remarks] == kinds


def test_model_keys_of_a_recipe_are_no_strangers() -> None:
    sheet = sheet_of("model_name_or_path: gpt2\nper_device_train_batch_size: 1\nbeta: 0.1\ntrust_remote_code: true\n")
    assert run(sheet, trl="0.9.6").remarks == ()


@pytest.mark.parametrize(("folder", "objective"), [("dpo", "dpo"), ("orpo", "orpo"), ("zephyr", "dpo")])
def test_preference_objective_by_its_folder(folder: str, objective: str) -> None:
    fact = sheet_of(QLORA + "beta: 0.1\n", f"recipes/{folder}/config_full.yaml").get("objective")
    assert fact is not None
    assert fact.value == objective


PLACE = Place("ds.json", Span(1, 1, 1, 2))
KEYS = (
    "zero_optimization",
    "stage",
    "bf16",
    "enabled",
    "train_batch_size",
    "offload_param",
    "device",
    "optimizer",
    "x",
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**10), st.floats(), st.sampled_from(["auto", "cpu", ""])
)


def _values() -> st.SearchStrategy[Value]:
    leaves: st.SearchStrategy[Value] = SCALARS.map(lambda value: Scalar(value, PLACE))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: Items(tuple(items), PLACE)),
            _tables(inner),
        ),
        max_leaves=12,
    )


def _tables(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Table]:
    entries = st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=5)
    return entries.map(lambda pairs: Table(tuple(Entry(key, PLACE, value) for key, value in pairs), PLACE))


@given(_tables(_values()))
@settings(max_examples=60, deadline=None)
def test_any_tree_gives_a_run(table: Table) -> None:
    sheets = [deepspeed_sheet("ds.json", table), training_arguments_sheet("a.yaml", table, "training-args-yaml")]
    runs = resolve(sheets, files({}, versions=NEWEST))
    assert {item.path for item in runs} <= {"ds.json", "a.yaml"}

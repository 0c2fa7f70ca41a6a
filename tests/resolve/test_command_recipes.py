"""A command line over the file that it names with `--config`."""

from __future__ import annotations

from tests.resolve.making import NEWEST, files
from vramlint.facts import Origin
from vramlint.resolve import resolve
from vramlint.surfaces.launch import Workload, launches, sheet_of_command
from vramlint.text import Place, Span
from vramlint.values import Command, Scalar

RECIPE = """\
model_name_or_path: meta-llama/Llama-2-7b-hf
per_device_train_batch_size: 4
gradient_accumulation_steps: 2
max_length: 1024
learning_rate: 2e-5
bf16: true
"""


def run(line: str, **contents: str):
    words = line.split()
    places = tuple(Place("run.sh", Span(1, 1 + i, 1, 2 + i)) for i in range(len(words)))
    command = Command(tuple(Scalar(word) for word in words), places, places[0])
    (launch,) = launches(Workload("run.sh", "", (command,)))
    sheet = sheet_of_command(launch)
    assert sheet is not None
    (found,) = resolve([sheet], files(contents, versions=NEWEST))
    return found


def test_command_line_wins_over_its_file():
    found = run("trl sft --config sft.yaml --per_device_train_batch_size 1 --num_processes 2", **{"sft.yaml": RECIPE})
    assert found.kind == "training"
    job = found.jobs[0]
    assert (job.batch.micro_batch_size, job.batch.gradient_accumulation_steps, job.batch.sequence_length) == (
        1,
        2,
        1024,
    )
    assert (job.parallelism.world_size, job.parallelism.strategy) == (2, "ddp")
    assert job.objective.sft
    assert found.paths == ("run.sh", "sft.yaml")
    batch, length = found.get("micro_batch_size"), found.get("sequence_length")
    assert (batch.via, batch.place.path, batch.origin) == ("cli", "run.sh", Origin.WRITTEN)
    assert (length.via, length.place.path, length.place.span.line) == ("config-file", "sft.yaml", 4)


def test_missing_recipe_is_said():
    found = run("trl sft --config gone.yaml --model_name_or_path gpt2")
    assert [(remark.kind, remark.subject) for remark in found.remarks] == [("missing-file", "gone.yaml")]


def test_preset_of_accelerate_shares_the_model():
    found = run("trl sft --config sft.yaml --accelerate_config zero3", **{"sft.yaml": RECIPE})
    job = found.jobs[0]
    assert (job.parallelism.strategy, job.parallelism.zero.stage, job.parallelism.world_size) == ("deepspeed", 3, 8)


def test_recipe_may_name_a_deepspeed_file():
    contents = {"sft.yaml": f"{RECIPE}deepspeed: ds.json\n", "ds.json": '{"zero_optimization": {"stage": 1}}'}
    found = run("trl sft --config sft.yaml --num_processes 8", **contents)
    assert found.get("zero_stage").value == 1
    assert found.paths == ("run.sh", "ds.json", "sft.yaml")


def test_broken_recipe_is_said():
    found = run("trl sft --config sft.yaml --model_name_or_path gpt2", **{"sft.yaml": "a: [\n"})
    assert [remark.kind for remark in found.remarks] == ["syntax-error"]

"""What rules about keys and settings edit, through the command line: safe where the meaning stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

ZERO = '{\n  "train_micro_batch_size_per_gpu": 1,\n  "zero_optimization": {\n    "stage": 2%s\n  }\n}\n'
TOP = '{\n  "train_micro_batch_size_per_gpu": 1,\n  "zero_optimization": {"stage": 2}%s\n}\n'


def zero(rest: str) -> str:
    return ZERO % "".join(f",\n    {row}" for row in rest.split("; ") if row)


def top(rest: str) -> str:
    return TOP % "".join(f",\n  {row}" for row in rest.split("; ") if row)


@pytest.mark.parametrize(
    ("before", "safely", "wholly"),
    [
        (zero('"cpu_offload": true'), zero('"offload_optimizer": {"device": "cpu"}'), None),
        (zero('"cpu_offload": false; "overlap_comm": true'), zero('"overlap_comm": true'), None),
        (zero('"reduce_bucket_size": "5e8"'), zero('"reduce_bucket_size": 5e8'), None),
        (
            zero('"stage3_max_live_parameters": 1e9; "stage3_prefetch_bucket_size": "auto"; "overlap_comm": true'),
            zero('"overlap_comm": true'),
            None,
        ),
        (zero('"offload_param": {"device": "cpu"}'), None, zero("")),
        (
            zero('"offload_optimizer": {"pin_memory": true}'),
            None,
            zero('"offload_optimizer": {"device": "cpu", "pin_memory": true}'),
        ),
        (zero('"offload_optimizer": {"device": "nvme"}'), zero('"offload_optimizer": {"device": "cpu"}'), None),
        (zero('"offload_optimizer": {"device": "none"}'), None, None),
        (zero('"reduce_buket_size": 5e8'), None, zero('"reduce_bucket_size": 5e8')),
        (top('"sparse_gradients": false; "steps_per_print": 10'), top('"steps_per_print": 10'), None),
        (top('"elasticity": {"enabled": true}'), None, None),
        (top('"steps_per_print": 5; "steps_per_print": 7; "steps_per_print": 10'), top('"steps_per_print": 10'), None),
        (
            top('"steps_per_print": 5, // first\n  // "steps_per_print": 7\n  "steps_per_print": 10,'),
            top('"steps_per_print": 10'),
            None,
        ),
        (top('"steps_per_print": "10"'), top('"steps_per_print": 10'), None),
        (
            top('"fp16": {"enabled": true}; "bf16": {"enabled": true}'),
            None,
            top('"fp16": {"enabled": false}; "bf16": {"enabled": true}'),
        ),
    ],
)
def test_deepspeed(vramlint: Run, tmp_path: Path, before: str, safely: str | None, wholly: str | None) -> None:
    (tmp_path / "requirements.txt").write_text("deepspeed==0.19.8\n")
    path = tmp_path / "ds.json"
    path.write_text(before)
    vramlint("ds.json", "--fix")
    assert path.read_text() == (safely or before)
    if wholly:
        vramlint("ds.json", "--fix", "--unsafe-fixes")
        assert path.read_text() == wholly


SCRIPT = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
args = TrainingArguments(output_dir="out", {arguments})
Trainer(model=model, args=args, train_dataset=dataset).train()
"""


@pytest.mark.parametrize(
    ("requirement", "before", "safely", "wholly"),
    [
        ("4.57.6", 'evaluation_strategy="no"', 'eval_strategy="no"', None),
        ("5.0", "per_gpu_train_batch_size=8", "per_device_train_batch_size=8", None),
        ("5.5", "group_by_length=True", None, None),
        ("4.57.6", "per_device_train_batch_sise=4", None, "per_device_train_batch_size=4"),
        ("4.57.6", 'per_device_train_batch_size="4"', "per_device_train_batch_size=4", None),
    ],
)
def test_arguments(
    vramlint: Run, tmp_path: Path, requirement: str, before: str, safely: str | None, wholly: str | None
) -> None:
    (tmp_path / "requirements.txt").write_text(f"transformers=={requirement}\n")
    path = tmp_path / "train.py"
    path.write_text(SCRIPT.format(arguments=before))
    vramlint("train.py", "--fix", *(["--unsafe-fixes"] if wholly else []))
    assert path.read_text() == SCRIPT.format(arguments=wholly or safely or before)


def test_a_contradiction_is_left_to_the_trainers_arguments(vramlint: Run, tmp_path: Path) -> None:
    config = tmp_path / "ds.json"
    config.write_text(zero("").replace("1", "8", 1))
    (tmp_path / "train.py").write_text(SCRIPT.format(arguments='per_device_train_batch_size=4, deepspeed="ds.json"'))
    vramlint("train.py", "--fix", "--unsafe-fixes")
    assert config.read_text() == zero("").replace("1", '"auto"', 1)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("gpu=rtx3099x2", "gpu=rtx-3090x2"), ("gpu=gtx1060x", "gpu=gtx-1060-6gb"), ("gpu=a100", None), ("gpu=zzz", None)],
)
def test_a_device_that_comes_near_is_written_even_if_the_run_does_not_fit_it(
    vramlint: Run, tmp_path: Path, said: str, meant: str | None
) -> None:
    path = tmp_path / "train.py"
    path.write_text(f"# vramlint: {said}, sequence-length=1024\n{SCRIPT.format(arguments='bf16=True')}")
    vramlint("train.py", "--fix")
    assert said in path.read_text()
    after = vramlint("train.py", "--fix", "--unsafe-fixes", "--format", "concise").out
    assert f"# vramlint: {meant or said}, sequence-length" in path.read_text()
    assert ("VRAM701" in after) is (meant is None)

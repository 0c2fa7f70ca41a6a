"""Configurations that a program writes from objects, and starts others with."""

from __future__ import annotations

import json

import pytest

from tests.api.test_launching import TRAIN, check, facts, place

_ARGS = """\
import json, subprocess, yaml
from pathlib import Path
args = dict(
    model_name_or_path="Qwen/Qwen2.5-7B-Instruct",
    stage="sft",
    finetuning_type="lora",
    bf16=True,
)
"""
_START = 'subprocess.run(["llamafactory-cli", "train", "configs/train.{}"])\n'


@pytest.mark.parametrize(
    ("write", "ending"),
    [
        ('json.dump(args, open("configs/train.json", "w"), indent=2)', "json"),
        ('with open("configs/train.yaml", "w") as f:\n    yaml.safe_dump(args, f)', "yaml"),
        ('with (Path("configs") / "train.yaml").open("w") as f:\n    yaml.dump(args, f)', "yaml"),
        ('(Path("configs") / "train.yaml").write_text(yaml.safe_dump(args))', "yaml"),
    ],
)
def test_the_object_is_the_file(write: str, ending: str) -> None:
    (job,) = check({"run.py": f"{_ARGS}{write}\n{_START.format(ending)}"}, "run.py").jobs
    said = facts(job)
    assert (said["model"], said["tuning"], said["objective"]) == ("Qwen/Qwen2.5-7B-Instruct", "lora", "sft")
    assert (place(job, "model"), place(job, "bf16")) == ("run.py:4", "run.py:7")


def test_a_cell_writes_it_and_another_starts_it() -> None:
    written = f'{_ARGS}json.dump(args, open("train.json", "w"))\n'
    cells = [{"cell_type": "code", "source": text} for text in (written, "!llamafactory-cli train train.json")]
    notebook = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})
    (job,) = check({"run.ipynb": notebook}, "run.ipynb").jobs
    assert facts(job)["model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert place(job, "model") == "run.ipynb:4"


def test_a_deepspeed_configuration_is_written_too() -> None:
    text = """\
import json, os
config = {"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": "auto"}
with open("ds.json", "w") as file:
    json.dump(config, file)
os.system("deepspeed --num_gpus 4 train.py --deepspeed ds.json --output_dir out")
"""
    (job,) = [job for job in check({"run.py": text, "train.py": TRAIN}, "run.py").jobs if job.status != "skipped"]
    assert (facts(job)["zero_stage"], facts(job)["world_size"]) == (3, 4)
    assert place(job, "zero_stage") == "run.py:2"


def test_what_only_run_time_knows_is_no_file() -> None:
    text = 'import json, subprocess\njson.dump(load(), open("train.json", "w"))\n' + _START.format("json")
    (job,) = check({"run.py": text}, "run.py").jobs
    assert job.status == "unresolved"


def test_a_text_that_is_written_makes_a_file_that_nobody_misses() -> None:
    write = 'with open("configs/train.json", "w") as f:\n    f.write(json.dumps(args, indent=2))'
    report = check({"run.py": f"{_ARGS}{write}\n{_START.format('json')}"}, "run.py")
    assert "missing-file" not in {finding.name for finding in report.findings}

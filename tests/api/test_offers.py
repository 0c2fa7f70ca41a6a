"""Jobs planned for several machines, each asked for in the files' own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import SCRIPT, Run, script, vramlint
from vramlint.api.asking import rewriting
from vramlint.text import Document, apply_edits

__all__ = ["script", "vramlint"]

SKY = """\
resources:
  accelerators: T4:2  # cheap
run: |
  torchrun --nproc_per_node $SKYPILOT_NUM_GPUS_PER_NODE train.py
"""
SBATCH = "#!/bin/bash\n#SBATCH --gres=gpu:t4:4\nsrun torchrun --nproc_per_node 4 train.py\n"
MEDIUM = SCRIPT.replace("gpt2", "gpt2-large")


def test_each_machine_has_its_plan_the_smallest_first(vramlint: Run, script: Path) -> None:
    script.write_text(MEDIUM, "utf-8")
    options = ("fit", "train.py", "--gpu", "a100-80gb,3GiB", "--gpu", "8GiBx2", "--gpu", "24GiB")
    (job,) = json.loads(vramlint(*options, "--format", "json").out)["jobs"]
    assert (job["offers"], job["gpu"], job["status"]) == (4, None, "plans")
    plans = job["plans"]
    assert [plan["gpu"] for plan in plans] == ["8GiBx2", "24GiB", "a100-80gb"]
    assert [plan["gpus"] for plan in plans] == [2, 1, 1]
    assert plans[-1]["changes"] == []
    assert plans[-1]["tokens_per_second"]["least"] > 0
    assert [refused["gpu"] for refused in job["refused"]] == ["3GiB"]
    assert job["refused"][0]["need_bytes"] > job["refused"][0]["limit_bytes"]
    text = vramlint(*options).out
    assert "3 of 4 machines would do" in text
    assert "  3GiB: nothing fits; the nearest plan needs " in text
    assert "it fits a100-80gb as it is" in vramlint(*options, "--apply", "3").err


def test_prices_come_before_memory(vramlint: Run, script: Path) -> None:
    options = ("fit", "train.py", "--gpu", "h100@2.5,a100-80gb@9,rtx3090@0.2,t4", "--format", "json")
    plans = json.loads(vramlint(*options).out)["jobs"][0]["plans"]
    assert [plan["gpu"] for plan in plans] == ["rtx3090", "h100", "a100-80gb", "t4"]
    prices = [plan["price_of_million_tokens"] for plan in plans]
    assert prices[-1] is None
    for plan, price, hourly in zip(plans, prices, (0.2, 2.5, 9), strict=False):
        assert price["most"] == pytest.approx(hourly / 3600 * 1e6 / plan["tokens_per_second"]["least"], rel=1e-3)


def test_the_job_file_asks_for_the_machine(vramlint: Run, tmp_path: Path, script: Path) -> None:
    (tmp_path / "job.yaml").write_text(SKY, "utf-8")
    options = ("fit", "job.yaml", "--gpu", "l4,h100x8")
    plans = json.loads(vramlint(*options, "--format", "json").out)["jobs"][0]["plans"]
    assert [plan["changes"][0]["description"] for plan in plans] == ["accelerators: L4:2", "accelerators: H100:8"]
    assert [plan["gpus"] for plan in plans] == [2, 8]
    assert vramlint(*options, "--apply", "2").code == 0
    assert (tmp_path / "job.yaml").read_text("utf-8") == SKY.replace("T4:2", "H100:8")
    again = vramlint("fit", "job.yaml")
    assert "NVIDIA H100 80GB HBM3: fits" in again.out


def test_no_more_processes_than_gpus_start(vramlint: Run, tmp_path: Path, script: Path) -> None:
    (tmp_path / "job.sbatch").write_text(SBATCH, "utf-8")
    options = ("fit", "job.sbatch", "--gpu", "l4x2,a100-80gb")
    plans = json.loads(vramlint(*options, "--format", "json").out)["jobs"][0]["plans"]
    words = [change["description"] for change in plans[0]["changes"]]
    assert words == ["--gres: l4:2", "--nproc_per_node 2, gradient_accumulation_steps=2"]
    assert vramlint(*options, "--apply", "1").code == 0
    expected = SBATCH.replace("t4:4", "l4:2").replace("node 4", "node 2")
    assert (tmp_path / "job.sbatch").read_text("utf-8") == expected
    assert "gradient_accumulation_steps=2" in script.read_text("utf-8")


def test_what_cannot_be_said_in_the_files_is_told(vramlint: Run, tmp_path: Path, script: Path) -> None:
    (tmp_path / "job.sbatch").write_text(SBATCH.replace("--nproc_per_node 4", "--nproc_per_node $((2 * 2))"), "utf-8")
    out = vramlint("fit", "job.sbatch", "--gpu", "l4x2,rtx3090x4").out
    assert "l4x2: its files start 4 processes, and l4x2 has 2 GPUs" in out
    (tmp_path / "job.sbatch").write_text(SBATCH.replace("--gres=gpu:t4:4", "--constraint=t4"), "utf-8")
    out = vramlint("fit", "job.sbatch", "--gpu", "l4x4,rtx3090x4").out
    assert "by hand: 4 NVIDIA L4 in job.sbatch:2" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpu", "l4,h100", "--maximize", "micro-batch"), "--maximize is about one GPU; --gpu names 2"),
        (("--gpu", "l4,h100", "--why-not", "lora"), "--why-not is about one GPU; --gpu names 2"),
        (("--gpu", "l4@cheap"), "--gpu: 'cheap' is no price of an hour such as 2.50"),
        (("--gpu", "l4,h1000"), "did you mean"),
    ],
)
def test_wrong_usage(vramlint: Run, script: Path, options: tuple[str, ...], message: str) -> None:
    result = vramlint("fit", "train.py", *options)
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\nb: 2  # two\n", "a: 1\nb: 3  # two\n"),
        ("a\nb\nc", "a\nx\ny\nc\n"),
        ("a = 1\r\nb = 2\r\n", "a = 1\r\nnew = 5\r\nb = 2\r\n"),
        ("aaaa\n", "aa\n"),
        ("same\n", "same\n"),
        ("x\n", ""),
    ],
)
def test_edits_between_two_texts(before: str, after: str) -> None:
    document = Document.of("f", before)
    edits = rewriting({"f": document}, {"f": Document.of("f", after), "g": document})
    assert apply_edits(document, edits) == after

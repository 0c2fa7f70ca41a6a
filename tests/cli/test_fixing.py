"""`--fix`, `--unsafe-fixes`, `--diff` and their exit codes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import SCRIPT, Run

DEEPSPEED = """\
{
  "train_micro_batch_size_per_gpu": 4,
  "bfloat16": {"enabled": true},
  "zero_optimization": {"stage": 2, "stage3_max_live_parameters": 1e9},
  "steps_per_prnt": 10
}
"""
SAFELY = DEEPSPEED.replace("bfloat16", "bf16").replace(', "stage3_max_live_parameters": 1e9', "")
WHOLLY = SAFELY.replace("prnt", "print")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "ds.json"
    path.write_text(DEEPSPEED)
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 1, DEEPSPEED),
        (["--unsafe-fixes"], 1, DEEPSPEED),
        (["--fix"], 1, SAFELY),
        (["--fix", "--unsafe-fixes"], 0, WHOLLY),
        (["--fix", "--unsafe-fixes", "--exit-non-zero-on-fix"], 1, WHOLLY),
        (["--fix-only"], 0, SAFELY),
        (["--fix-only", "--exit-non-zero-on-fix"], 1, SAFELY),
        (["--fix-only", "--exit-non-zero-on-fix", "--exit-zero"], 0, SAFELY),
        (["--diff"], 1, DEEPSPEED),
        (["--diff", "--select", "VRAM1"], 0, DEEPSPEED),
        (
            ["--fix", "--unsafe-fixes", "--select", "VRAM8"],
            0,
            WHOLLY.replace("2}", '2, "stage3_max_live_parameters": 1e9}'),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_made_and_the_exit_code(
    vramlint: Run, config: Path, arguments: list[str], code: int, text: str
) -> None:
    assert vramlint("ds.json", *arguments).code == code
    assert config.read_text() == text


def test_a_second_call_changes_nothing(vramlint: Run, config: Path) -> None:
    vramlint("ds.json", "--fix", "--unsafe-fixes")
    assert vramlint("ds.json", "--fix", "--unsafe-fixes", "--exit-non-zero-on-fix").code == 0
    assert config.read_text() == WHOLLY


def test_settings_ask_for_fixes_and_the_command_line_wins(vramlint: Run, config: Path, tmp_path: Path) -> None:
    settings = tmp_path / "vramlint.toml"
    settings.write_text("fix = true\nunsafe-fixes = true\n")
    vramlint("ds.json", "--no-fix")
    assert config.read_text() == DEEPSPEED
    vramlint("ds.json", "--no-unsafe-fixes")
    assert config.read_text() == SAFELY
    vramlint("ds.json")
    assert config.read_text() == WHOLLY
    config.write_text(DEEPSPEED)
    settings.write_text('fix = true\nfixable = ["VRAM8"]\nunfixable = ["unknown-deepspeed-key"]\nunsafe-fixes = true\n')
    vramlint("ds.json")
    assert config.read_text() == DEEPSPEED.replace("bfloat16", "bf16")


def test_what_is_said(vramlint: Run, config: Path) -> None:
    found = vramlint("ds.json", "--format", "concise")
    assert [line.split(" ")[3] for line in found.out.splitlines()] == ["[*]", "[*]", "DeepSpeed"]
    assert found.err.rstrip().endswith("; 2 fixable with --fix, 1 more with --unsafe-fixes")
    assert vramlint("ds.json", "--unsafe-fixes").err.rstrip().endswith("; 3 fixable with --fix")
    shown = vramlint("ds.json", "--diff")
    assert shown.err.rstrip().endswith("would fix 2 findings in 1 file; 1 more with --unsafe-fixes")
    fixed = vramlint("ds.json", "--fix", "--format", "json")
    assert "fixed ds.json: VRAM804 deprecated-key: `bf16` in place of `bfloat16`\n" in fixed.err
    assert json.loads(fixed.out)["summary"]["fixed"] == 2
    assert vramlint("ds.json", "--fix-only").err == "nothing to fix; 1 more with --unsafe-fixes\n"


def test_a_difference_is_one_that_patch_takes(vramlint: Run, config: Path) -> None:
    config.write_bytes(b'{"bfloat16": {"enabled": true},\r\n "train_micro_batch_size_per_gpu": 8}')
    assert vramlint("ds.json", "--diff").out == (
        '--- ds.json\n+++ ds.json\n@@ -1,2 +1,2 @@\n-{"bfloat16": {"enabled": true},\r\n'
        '+{"bf16": {"enabled": true},\r\n  "train_micro_batch_size_per_gpu": 8}\n\\ No newline at end of file\n'
    )


def test_standard_input_is_fixed_to_standard_output(vramlint: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DEEPSPEED.replace("\n", "\r\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    result = vramlint("-", "--stdin-filename", "sub/ds.json", "--fix", "--format", "concise")
    assert result.out == SAFELY.replace("\n", "\r\n")
    assert result.err.startswith("sub/ds.json:5:3: warning VRAM802 ")


LAUNCHER = """\
#!/bin/bash
torchrun --nproc_per_node 1 train.py --per_device_train_batch_size 16 --output_dir out --bf16 True
"""
PROGRAM = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
Trainer(model=model, args=args).train()
# vramlint: sequence-length=1024
"""


def test_a_launchers_flag_is_fixed_in_the_launcher(vramlint: Run, tmp_path: Path) -> None:
    script, launcher = tmp_path / "train.py", tmp_path / "run.sh"
    script.write_text(PROGRAM)
    launcher.write_text(LAUNCHER)
    result = vramlint("train.py", "--gpu", "8GiB", "--fix", "--unsafe-fixes")
    assert script.read_text() == PROGRAM
    assert launcher.read_text() != LAUNCHER
    assert "VRAM101" not in result.out
    assert vramlint("train.py", "--gpu", "8GiB", "--diff", "--unsafe-fixes").out == ""


def test_a_misfit_is_fixed_as_promised(vramlint: Run, script: Path) -> None:
    result = vramlint("train.py", "--gpu", "3GiB", "--fix", "--unsafe-fixes", "--format", "json")
    report = json.loads(result.out)
    assert [item for item in report["findings"] if item["severity"] == "error"] == []
    promised = float(result.err.partition(" to ")[2].partition(" GiB")[0])
    assert report["jobs"][0]["high_bytes"] / 2**30 == pytest.approx(promised, rel=0.01)
    assert [line for line in SCRIPT.splitlines() if line not in script.read_text()] == [
        line for line in SCRIPT.splitlines() if "TrainingArguments(" in line
    ]


def test_a_suppressed_finding_is_not_fixed(vramlint: Run, script: Path) -> None:
    text = SCRIPT.replace("None).train()", "None).train()\n# vramlint: ignore-file[VRAM101] on purpose")
    script.write_text(text)
    assert vramlint("train.py", "--gpu", "3GiB", "--fix", "--unsafe-fixes").code == 0
    assert script.read_text() == text


def test_a_suppression_of_nothing_goes(vramlint: Run, config: Path) -> None:
    config.write_text(WHOLLY)
    path = config.with_name("a.yaml")
    text = "per_device_train_batch_size: 4\noutput_dir: out # vramlint: ignore[VRAM804] no more\nlearning_rate: 0.1\n"
    path.write_text(text)
    vramlint("a.yaml", "--fix")
    assert path.read_text() == text.replace(" # vramlint: ignore[VRAM804] no more", "")


@pytest.mark.parametrize("setting", ["", 'exclude = ["vendored"]'])
def test_files_that_are_left_out_are_not_edited(vramlint: Run, script: Path, tmp_path: Path, setting: str) -> None:
    (tmp_path / "vramlint.toml").write_text(setting)
    shared = tmp_path / "vendored" / "ds.json"
    shared.parent.mkdir()
    shared.write_text(DEEPSPEED)
    script.write_text(SCRIPT.replace("max_steps=10", 'deepspeed="vendored/ds.json"'))
    vramlint("train.py", "--fix", "--ignore", "VRAM810")
    assert (shared.read_text() == DEEPSPEED) is bool(setting)

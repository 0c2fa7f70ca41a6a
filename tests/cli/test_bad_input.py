"""Bad input: a finding at the place, the other files still checked, the right exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SCRIPT, Run

GOOD = '{"zero_optimisation": {"stage": 2}, "train_micro_batch_size_per_gpu": 4}\n'
"""Good enough to be read: its finding shows that it was."""

CASES = {
    "syntax error": ("bad.py", b"from transformers import Trainer\ndef f(:\n    pass\n", "bad.py:", "syntax-error"),
    "unclosed json": ("bad.json", b'{"zero_optimization": {"stage": 2}', "bad.json:1:", "syntax-error"),
    "invalid yaml": ("bad.yaml", b"a: [1, 2\nb: }\n", "bad.yaml:", "syntax-error"),
    "empty python": ("bad.py", b"", "bad.py:1:1", "empty-file"),
    "only blanks": ("bad.json", b" \n\n", "bad.json:1:1", "empty-file"),
    "binary": ("bad.py", b"\x00\x01\x02" * 100, "bad.py:1:1", "unreadable-file"),
    "not utf-8": ("bad.py", b"x = 1\ny = '\xff\xfe'\n", "bad.py:2:6", "unreadable-file"),
    "utf-16": ("bad.json", '{"a": 1}'.encode("utf-16"), "bad.json:1:1", "unreadable-file"),
    "unknown encoding": ("bad.py", b"# coding: klingon\nx = 1\n", "bad.py:1:1", "unreadable-file"),
    "too large": ("bad.json", b" " * 50_000_000, "bad.json:1:1", "unreadable-file"),
    "deep json": ("bad.json", b'{"a":' * 20_000, "bad.json:1:", "syntax-error"),
    "unknown suffix": ("bad.txt", b"hello\n", "bad.txt:1:1", "unreadable-file"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_a_finding(vramlint: Run, tmp_path: Path, case: str) -> None:
    name, content, place, rule = CASES[case]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.json").write_text(GOOD)
    result = vramlint(name, "good.json", "--fail-on", "info")
    blocks = result.out.split("\n\n")
    assert result.code == 1
    assert any(f" --> {place}" in block and f"] {rule}: " in block for block in blocks), result.out
    assert "unknown-deepspeed-key" in result.out


def test_a_missing_path(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(GOOD)
    result = vramlint("absent.py", "good.json")
    assert result.code == 1
    assert "absent.py" in result.out
    assert "unknown-deepspeed-key" in result.out


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(vramlint: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text(SCRIPT)
    path.chmod(0)
    result = vramlint("bad.py")
    assert result.code == 1
    assert "unreadable-file" in result.out


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in the file system")
def test_a_pipe_is_not_waited_for(vramlint: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    result = vramlint("pipe.py")
    assert result.code == 1
    assert "not a regular file" in result.out


def test_a_missing_deepspeed_file_is_found_at_its_name(vramlint: Run, script: Path) -> None:
    script.write_text(SCRIPT.replace("max_steps=10", 'max_steps=10, deepspeed="absent.json"'))
    result = vramlint("train.py", "--gpu", "h200", "--format", "concise")
    (line,) = [line for line in result.out.splitlines() if "absent.json" in line]
    assert line.startswith("train.py:4:")
    assert result.code == 1


def test_a_broken_deepspeed_file_is_found_in_it(vramlint: Run, script: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"zero_optimization": \n')
    script.write_text(SCRIPT.replace("max_steps=10", 'max_steps=10, deepspeed="broken.json"'))
    result = vramlint("train.py", "--gpu", "h200", "--format", "concise")
    assert "broken.json:" in result.out
    assert result.code == 1


def test_a_wrong_type_is_found_at_the_value(vramlint: Run, script: Path) -> None:
    script.write_text(SCRIPT.replace("batch_size=4", 'batch_size="eight"'))
    result = vramlint("train.py", "--gpu", "2GiB", "--format", "concise")
    column = script.read_text().splitlines()[3].index('"eight"') + 1
    assert any(line.startswith(f"train.py:4:{column}: ") for line in result.out.splitlines()), result.out
    assert result.code == 1


def test_an_unknown_model_is_unresolved_not_green(vramlint: Run, script: Path) -> None:
    script.write_text(SCRIPT.replace("openai-community/gpt2", "nobody/knows-this-7b"))
    result = vramlint("train.py", "--gpu", "2GiB")
    assert "1 unresolved" in result.err
    assert "model" in result.out
    assert result.code in {0, 1}

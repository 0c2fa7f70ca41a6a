"""Running the command line inside the test process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vramlint.__main__ import main

SCRIPT = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", torch_dtype="float32")
args = TrainingArguments(output_dir="out", per_device_train_batch_size=4, optim="adamw_torch", max_steps=10)
Trainer(model=model, args=args, train_dataset=None).train()
# vramlint: sequence-length=512
"""
"""Small, so that it is simulated quickly; does not fit 2 GiB."""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def vramlint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in an empty folder; never with colour, never with the settings of the machine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "VRAMLINT_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Result:
        code = main(list(arguments))
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        assert "internal error" not in captured.err
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def on_processors(count: int, folder: Path, *arguments: str) -> Result:
    """The command in a process of its own, which has so many processors and no threads."""
    command = (
        "import os, sys\n"
        f"os.sched_getaffinity = lambda _: set(range({count}))\n"
        "os.environ.pop('VRAMLINT_PROCESSES', None)\n"
        "from vramlint.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Result(done.returncode, done.stdout, done.stderr)

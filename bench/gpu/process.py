"""A process for each case: forked from one that has imported the libraries, or a new interpreter.

What CUDA holds belongs to a process, so every case needs one of its own. Importing torch and transformers takes longer
than most cases; a fork server does it once, and never touches the GPU itself, or its children could not.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench.gpu.record import ERROR, TIMEOUT
from bench.gpu.table import Row

ROOT = Path(__file__).resolve().parents[2]
TAIL = 600
"""Characters of a lost process's stderr that are kept."""
PRELOADED = ("torch", "accelerate", "peft", "transformers.trainer", "transformers.models.auto.modeling_auto")
"""Modules whose import leaves the GPU alone; that of bitsandbytes does not."""
GENTLE = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""torch then asks the driver whether there is a GPU, not CUDA (torch 2.13 cuda/__init__.py, is_available)."""
Start = Callable[[Row, str, float, Path, Path], str]
"""Run (row, device, seconds, file for the measured row, file for what it prints); says what became of the process."""


def run_case(row: Row, device: str, seconds: float, gpu: str, *, start: Start) -> Row:
    """A case in a process of its own; whatever becomes of that is the row's outcome."""
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "row.json", Path(folder) / "log"
        fate = start(row, device, seconds, path, log)
        said = log.read_text(encoding="utf-8", errors="replace")[-TAIL:] if log.exists() else ""
        if fate == TIMEOUT:
            return {**row, "gpu": {"name": gpu}, "result": {}, "outcome": TIMEOUT, "error": f"{seconds:.0f} s: {said}"}
        try:
            measured: Row = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {**row, "gpu": {"name": gpu}, "result": {}, "outcome": ERROR, "error": f"{fate}: {said}"}
        return {"gpu": {"name": gpu}, **measured} if device == "cuda" else measured


def interpreter(row: Row, device: str, seconds: float, path: Path, log: Path) -> str:
    """Start a new interpreter."""
    command = [sys.executable, "-m", "bench.gpu.child", str(path), device]
    with log.open("wb") as file:
        try:
            done = subprocess.run(
                command,
                input=json.dumps(row).encode(),
                cwd=ROOT,
                stdout=file,
                stderr=file,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return TIMEOUT
    return f"exit status {done.returncode}"


def fork_server() -> Start:
    """Start forks of one process that has everything imported."""
    os.environ.update(GENTLE)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))

    def forked(row: Row, device: str, seconds: float, path: Path, log: Path) -> str:
        process = context.Process(target=_in_fork, args=(row, device, path, log))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            return TIMEOUT
        return f"exit status {process.exitcode}"

    return forked


def _in_fork(row: Row, device: str, path: Path, log: Path) -> None:
    """What a fork does: measure, with everything that is printed in the log."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    measure = import_module("bench.gpu.child").measure
    path.write_text(json.dumps(measure(row, device)), encoding="utf-8")

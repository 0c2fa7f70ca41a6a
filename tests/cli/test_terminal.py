"""Colour, encoding and broken pipes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vramlint.cli.terminal import use_color


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("mode", "terminal", "environment", "expected"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", False, {"FORCE_COLOR": "1"}, True),
        ("auto", False, {"FORCE_COLOR": "0"}, False),
        ("auto", False, {"CLICOLOR_FORCE": "1"}, True),
        ("auto", False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_color(mode: str, terminal: bool, environment: dict[str, str], expected: bool) -> None:
    assert use_color(mode, Terminal() if terminal else io.StringIO(), environment) is expected


def test_a_file_gets_colour_only_on_demand() -> None:
    assert not use_color("auto", None, {"FORCE_COLOR": "1"})
    assert use_color("always", None, {})


def test_output_is_utf8_under_every_locale() -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "vramlint", "rule", "exceeds-gpu-memory"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert "exceeds-gpu-memory" in done.stdout.decode("utf-8")


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"tr\xff.py")  # noqa: PTH118 - bytes
    try:
        with open(path, "wb") as file:  # noqa: PTH123 - bytes
            file.write(b"def f(:\n")
    except OSError:
        pytest.skip("the file system takes text only")
    done = subprocess.run([sys.executable, "-m", "vramlint", path], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX pipe")
def test_a_broken_pipe_is_quiet() -> None:
    command = f"'{sys.executable}' -m vramlint models | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1

"""Wrong usage: one line, a suggestion, exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vramlint.cli.gpus
from tests.cli.conftest import Run
from vramlint import __version__
from vramlint.__main__ import main
from vramlint.cli.arguments import find_command

pytestmark = pytest.mark.usefixtures("script")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--fromat", "json"], "unknown option '--fromat', did you mean '--format'?"),
        (["--format", "jsno"], "--format: 'jsno' is none of full, concise, json, sarif, github, did you mean 'json'?"),
        (["--gpu", "rtx3091", "train.py"], "unknown GPU 'rtx3091', did you mean 'rtx-3090'?"),
        (["--gpu", "a100", "train.py"], "GPU 'a100' is ambiguous: say "),
        (["--nodes", "0"], "--nodes: '0' is no number of at least 1"),
        (["--ram", "512"], "--ram: '512' is no size such as 512GiB"),
        (["--nvme", "much"], "--nvme: 'much' is no size such as 512GiB"),
        (["--nodes", "٣"], "--nodes: '٣' is no number of at least 1"),
        (["--select", "exceeds-gpu-memry", "train.py"], "unknown rule 'exceeds-gpu-memry', did you mean "),
        (["--fail-on", "warn"], "--fail-on: 'warn' is none of error, warning, info, did you mean 'warning'?"),
        (["--gpu"], "--gpu: expected one argument"),
        (["explain"], "the following arguments are required: FILE"),
        (["explain", "a.py", "b.py"], "unexpected argument 'b.py'"),
        (["rule", "exceeds-gpu-memorx"], "unknown rule 'exceeds-gpu-memorx', did you mean 'exceeds-gpu-memory'?"),
        (["gpus", "rtx3091"], "no GPU matches 'rtx3091', did you mean 'rtx-3090'?"),
        (["models", "meta-llama/Llama-2-7b-fh"], "no model matches 'meta-llama/Llama-2-7b-fh', did you mean "),
        (["--config", "absent.toml"], "absent.toml:1: cannot read settings: "),
        (["--output-file", "absent/out.txt", "train.py"], "cannot write absent/out.txt: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(vramlint: Run, arguments: list[str], expected: str) -> None:
    result = vramlint(*arguments)
    assert result.code == 2
    assert result.err.startswith(f"vramlint: error: {expected}")
    assert result.err.count("\n") == 1


def test_bad_settings_name_file_line_and_key(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "vramlint.toml").write_text('\ngpuu = "rtx3090"\n')
    result = vramlint("train.py")
    assert result.code == 2
    assert "vramlint.toml:2: " in result.err
    assert "did you mean `gpu`?" in result.err
    assert vramlint("train.py", "--isolated").code in {0, 1}


@pytest.mark.parametrize(
    ("settings", "line", "key"),
    [
        ('gpu = "rtx3090"\nignore = ["VRAM10l"]\n', 2, "ignore"),
        ('select = ["VRAM10l"]\n', 1, "select"),
        ('\n[severity]\nVRAM10l = "info"\n', 2, "severity"),
        ('[[overrides]]\nfiles = ["a.py"]\nignore = ["VRAM10l"]\n', 3, "ignore"),
    ],
)
def test_an_unknown_rule_in_the_settings_is_found_there(
    vramlint: Run, tmp_path: Path, settings: str, line: int, key: str
) -> None:
    (tmp_path / "vramlint.toml").write_text(settings)
    result = vramlint("train.py")
    assert result.code == 2
    assert result.err.endswith(f"vramlint.toml:{line}: `{key}`: unknown rule 'VRAM10l', did you mean 'VRAM101'?\n")


def test_an_unknown_gpu_in_the_settings_is_found_there(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "vramlint.toml").write_text('\n\ngpu = "rtx3091"\n')
    result = vramlint("train.py")
    assert result.code == 2
    assert "vramlint.toml:3: unknown GPU 'rtx3091', did you mean " in result.err


def test_version(vramlint: Run) -> None:
    for arguments in (["--version"], ["-V"], ["explain", "--version"]):
        assert vramlint(*arguments) == vramlint("--version")
    assert vramlint("--version").out == f"vramlint {__version__}\n"


@pytest.mark.parametrize("command", [[], ["explain"], ["rule"], ["gpus"], ["models"], ["check"]])
def test_help(vramlint: Run, command: list[str]) -> None:
    result = vramlint(*command, "--help")
    assert result.code == 0
    assert result.out.startswith("usage: vramlint")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ("check", [])),
        (["a.py"], ("check", ["a.py"])),
        (["explain", "a.py"], ("explain", ["a.py"])),
        (["--gpu", "rtx3090", "explain", "a.py"], ("explain", ["--gpu", "rtx3090", "a.py"])),
        (["--gpu=rtx3090", "rule"], ("rule", ["--gpu=rtx3090"])),
        (["a.py", "explain"], ("check", ["a.py", "explain"])),
        (["--", "explain"], ("check", ["--", "explain"])),
        (["-", "explain"], ("check", ["-", "explain"])),
        (["--gpu", "explain", "rule"], ("rule", ["--gpu", "explain"])),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands(arguments: list[str], expected: tuple[str, list[str]]) -> None:
    assert find_command(arguments) == expected


def test_a_file_called_like_a_command_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rule").write_text("")
    assert find_command(["rule"]) == ("check", ["rule"])


def test_an_internal_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(options: object) -> int:
        raise ZeroDivisionError("of all\nthings")

    monkeypatch.delenv("VRAMLINT_DEBUG", raising=False)
    monkeypatch.setattr(vramlint.cli.gpus, "run", fail)
    assert main(["gpus"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("vramlint: internal error: ZeroDivisionError: of all things; this is a bug")
    assert error.count("\n") == 1
    monkeypatch.setenv("VRAMLINT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["gpus"])


def test_the_version_is_answered_before_anything_is_imported() -> None:
    code = "import sys; from vramlint.__main__ import main; main(['--version']); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    assert version == f"vramlint {__version__}"
    assert not {"argparse", "re", "dataclasses", "vramlint.cli", "libcst"} & set(modules.split())

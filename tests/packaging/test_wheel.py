from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

EXAMPLE = "examples/full-finetune-7b"
BIN = "Scripts" if os.name == "nt" else "bin"


def names_under(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern) if path.is_file()}


@pytest.fixture(scope="module")
def wheel(index: None, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a release makes it: from the source distribution, not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(checkout)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("vramlint-*-py3-none-any.whl"))


@pytest.fixture(scope="module")
def vramlint(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment that holds nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("venv") / "empty"
    venv.create(folder)
    python = folder / BIN / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", str(wheel)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / BIN / "vramlint"


def test_wheel_carries_rules_catalog_and_schemas(wheel: Path, checkout: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    rules = names_under(checkout / "rules", "*")
    package = {name for name in names_under(checkout / "vramlint", "*") if "__pycache__" not in name}
    assert any(name.endswith(".toml") for name in rules)
    assert inside >= {f"vramlint/rules/{name}" for name in rules}
    assert inside >= {f"vramlint/{name}" for name in package}
    top = {name.partition("/")[0] for name in inside}
    assert {name for name in top if not name.endswith(".dist-info")} == {"vramlint"}


def test_wheel_lints_from_another_folder(vramlint: Path, checkout: Path, tmp_path: Path) -> None:
    script = checkout / EXAMPLE / "train.py"
    command = [str(vramlint), str(script), "--gpu", "rtx3090", "--format", "json"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert [finding["code"] for finding in findings] == ["VRAM101", "VRAM617"]
    assert findings[0]["fix"]["fits"] is True
    assert list(tmp_path.iterdir()) == []


def test_wheel_finds_its_rules_and_gpus(vramlint: Path, checkout: Path, tmp_path: Path) -> None:
    def printed(*arguments: str) -> str:
        done = subprocess.run([str(vramlint), *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    assert "exceeds-gpu-memory" in printed("rule", "VRAM101")
    assert "rtx-3090" in printed("gpus", "3090")
    assert "meta-llama/Llama-2-7b-hf" in printed("models", "Llama-2-7b-hf")
    rules = json.loads(printed("rule", "--format", "json"))
    assert len(rules["rules"]) == len(list((checkout / "rules").rglob("*.toml")))

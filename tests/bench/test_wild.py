from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import wild

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    good = tmp_path / "someone__project"
    good.mkdir()
    for name in ("train.py", "ds_config.json", "requirements.txt"):
        (good / name).write_bytes((ROOT / "examples/full-finetune-7b" / name).read_bytes())
    (tmp_path / "nobody__nothing").mkdir()
    return tmp_path


def test_repositories_and_their_total(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = root.parent / f"{root.name}.tsv"
    assert wild.main(["--root", str(root), "--gpu", "rtx3090", "--json", "--findings", str(findings)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["repositories"]["nobody__nothing"]["jobs"] == 0
    assert report["total"]["jobs"] == report["total"]["checked"] == 1
    assert report["total"]["findings"]["exceeds-gpu-memory"] == 1
    assert findings.read_text().startswith("someone__project\tVRAM")

    assert wild.main(["--root", str(root)]) == 0
    assert "someone__project" in capsys.readouterr().out


def test_crashes_are_told_by_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(arguments: list[str]) -> int:
        raise ZeroDivisionError(arguments[-1])

    monkeypatch.setattr(wild, "vramlint", crash)
    row = wild.visit(root / "someone__project", "")
    assert row["crashes"][0] == "ZeroDivisionError: ."
    assert any("train.py: ZeroDivisionError" in crash for crash in row["crashes"])


def test_equal_reasons_count_together() -> None:
    first = wild.general("model is not known (command line: --model is required (line 12))")
    assert first == wild.general("model is not known (command line: --model is required (line 40))")

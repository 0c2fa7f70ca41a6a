"""Files of one fix are written together or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vramlint.cli.errors import UsageError
from vramlint.cli.writing import write_all


def test_modes_stay_and_links_are_followed(tmp_path: Path) -> None:
    script, real = tmp_path / "run.sh", tmp_path / "real.json"
    script.write_bytes(b"old\r\n")
    script.chmod(0o750)
    real.write_bytes(b"old")
    link = tmp_path / "link.json"
    link.symlink_to("real.json")
    write_all({str(script): b"new\r\n", str(link): b"{}"})
    assert (script.read_bytes(), real.read_bytes()) == (b"new\r\n", b"{}")
    assert script.stat().st_mode & 0o777 == 0o750
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "real.json", "run.sh"]


def test_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_bytes(b"a")
    second.write_bytes(b"b")
    replace, calls = os.replace, iter(range(9))

    def fails_once(source: str, target: str) -> None:
        if next(calls) == 1:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(UsageError, match=r"cannot write .*b\.yaml: No space left on device; nothing was changed"):
        write_all({str(first): b"1", str(second): b"2"})
    assert (first.read_bytes(), second.read_bytes()) == (b"a", b"b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "b.yaml"]


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    kept = tmp_path / "a.yaml"
    kept.write_bytes(b"a")
    with pytest.raises(UsageError, match="nothing was changed"):
        write_all({str(kept): b"1", str(tmp_path / "b.yaml"): b"2"})
    assert kept.read_bytes() == b"a"
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]

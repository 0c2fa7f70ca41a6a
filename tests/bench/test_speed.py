from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import speed


def test_take_turns_divides_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9, 9, 2, 1, 30, 10, 8, 2])  # one run each to warm up, then three pairs
    monkeypatch.setattr(speed, "once", lambda command: next(seconds))
    timing = speed.take_turns("ratio", ["/bin/ours", "-c"], ["peer"], rounds=3)
    assert (timing.ours, timing.peer, timing.ratio) == (8, 2, 3)
    assert timing.command == "ours -c"


def test_a_failing_command_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="exited with 2"):
        speed.once([sys.executable, "-c", "import sys; sys.exit(2)"])


def test_json_has_all_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n", encoding="utf-8")
    assert speed.main(["--json", "--rounds", "1", "--tree", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    names = ("version_ratio", "script_ratio", "tree_ratio", "simulate_70b_ms", "simulate_gpt2_ms", "layers_ratio")
    assert all(report[name] > 0 for name in names)


def test_script_has_the_length_that_it_is_named_for() -> None:
    text = speed.SCRIPT.read_text(encoding="utf-8")
    compile(text, "finetune.py", "exec")
    assert 295 <= text.count("\n") <= 305

"""The accuracy bench on rows of its own data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import accuracy
from bench.accuracy import Outcome, figures

ROWS = [line for path in accuracy.DEFAULT_CASES for line in path.read_text(encoding="utf-8").splitlines()]


def test_figures_of_outcomes() -> None:
    found = [
        Outcome("a", "llama", 0.02, 0.01, 0.0, phase_right=True, states_exact=True, reserved_error=0.03),
        Outcome("b", "llama", -0.04, 0.0, 0.002, phase_right=False, states_exact=True, reserved_error=-0.05),
    ]

    assert figures(found) == {
        "n": 2,
        "median_error": pytest.approx(0.03),
        "p95_error": 0.04,
        "max_error": 0.04,
        "worst_under": 0.04,
        "phase_right": 0.5,
        "states_exact": 1.0,
        "first_step_median_error": pytest.approx(0.005),
        "first_step_p95_error": 0.01,
        "first_step_max_error": 0.01,
        "first_step_worst_under": 0.0,
        "saved_median_error": pytest.approx(0.001),
        "reserved_median_error": pytest.approx(0.04),
        "reserved_p95_error": 0.05,
        "reserved_max_error": 0.05,
        "reserved_worst_under": 0.05,
    }


def test_json_has_the_names_of_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = next(row for row in map(json.loads, ROWS) if row["config"]["model_type"] == "gpt2")
    unknown = {**known, "config": {**known["config"], "model_type": "made-up"}, "task": "image-cls"}
    chosen = [known, unknown]
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n".join(json.dumps(row) for row in chosen), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["accuracy.py", "--cases", str(cases), "--json"])

    assert accuracy.main() == 0

    report = json.loads(capsys.readouterr().out)
    assert report["n"] == 1
    assert report["max_error"] < 0.0001
    assert set(report["families"]) == {"gpt2"}
    assert report["not_simulated"] == {"made-up": 1}
    assert report["first_step_max_error"] < 0.0001
    assert 0 <= report["reserved_p95_error"] < 0.06

"""The comparison with other calculators, with stand-ins for them: nothing is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import peers
from bench.accuracy import DEFAULT_CASES
from bench.calculators import accelerate_memory, deepspeed_states, fitcheck, gpu_estimator, torch_preflight
from bench.calculators.harness import NotExpressibleError, Run, answer
from bench.gpu.record import rows_of
from bench.peers import CALCULATORS, Calculator

ROWS = [row for path in DEFAULT_CASES for row in rows_of(path)]
RUNS = [peers.run_of(row) for row in peers.choose(ROWS, 60)]


def a_run(**wanted: Any) -> Run:
    return next(run for run in RUNS if all(getattr(run, name) == value for name, value in wanted.items()))


def test_rows_are_chosen_by_their_ids_alone():
    chosen = [row["id"] for row in peers.choose(ROWS, 30)]

    assert chosen == [row["id"] for row in peers.choose(ROWS[::-1], 30)]
    assert chosen[:10] == [row["id"] for row in peers.choose(ROWS, 10)]
    assert not any(row["case"].get("overrides") for row in peers.choose(ROWS, 100))


def test_parameters_of_a_run_are_those_of_the_model_without_adapters():
    row = next(
        row
        for row in ROWS
        if row["case"]["model"] == "llama-3.2-1b" and row["case"].get("quant") and row["case"]["peft"]
    )

    run = peers.run_of(row)

    assert run.parameters == 1_235_814_400
    assert run.trainable == row["result"]["trainable_count"]
    assert run.quantization == "nf4"
    assert run.precision == "bf16"


def test_what_a_calculator_has_no_words_for_is_refused():
    lora = next(run for run in RUNS if run.lora)
    encoder = a_run(task="masked-lm")
    quantized = next(run for run in RUNS if run.quantization)

    for calculator in (accelerate_memory, deepspeed_states, gpu_estimator):
        assert "refused" in answer(lora, calculator.predict)
    assert answer(encoder, fitcheck.predict) == {"refused": "causal language models only"}
    assert answer(quantized, torch_preflight.predict) == {"refused": "unquantized only"}


def test_an_answer_is_a_figure_or_says_why_not():
    run = RUNS[0]

    def broken(run: Run) -> float:
        raise RuntimeError("no network")

    def refuses(run: Run) -> float:
        raise NotExpressibleError("x" * 500)

    given = answer(run, lambda run: 12.6)
    assert given["bytes"] == 13
    assert given["seconds"] >= 0
    assert answer(run, broken) == {"failed": "RuntimeError: no network"}
    assert len(answer(run, refuses)["refused"]) == 160


def test_vramlint_answers_in_a_process_of_its_own():
    given = peers.ask(CALCULATORS[0], Path(sys.executable), RUNS[:3], 60.0)
    truth = {run.id: run.row["result"]["steady_step"]["peak"] for run in RUNS[:3]}

    found = peers.figures(given, given, truth)

    assert found["n"] == 3
    assert found["max_error"] < 0.0001
    assert found["vramlint_max_error"] == found["max_error"]
    assert found["seconds"] > 0


def test_a_process_that_dies_is_no_answer():
    broken = Calculator("broken", "no_such_adapter", "broken")

    given = peers.ask(broken, Path(sys.executable), RUNS[:2], 60.0)

    assert [list(one) for one in given.values()] == [["failed"], ["failed"]]
    assert "no_such_adapter" in given[RUNS[0].id]["failed"]


def test_figures_of_answers():
    truth = {"a": 100, "b": 200, "c": 400, "d": 1}
    answers = {
        "a": {"bytes": 110, "seconds": 1.0},
        "b": {"bytes": 100, "seconds": 3.0},
        "c": {"refused": "no"},
        "d": {"failed": "E"},
    }
    ours = {name: {"bytes": size, "seconds": 0.1} for name, size in (("a", 100), ("b", 198), ("c", 1), ("d", 9))}

    found = peers.figures(answers, ours, truth)

    assert (found["n"], found["not_expressible"], found["failed"]) == (2, 1, 1)
    assert found["mean_error"] == pytest.approx(0.3)
    assert found["median_error"] == pytest.approx(0.3)
    assert found["max_error"] == 0.5
    assert found["worst_under"] == 0.5
    assert found["within_10_percent"] == 0.5
    assert found["vramlint_max_error"] == pytest.approx(0.01)
    assert found["seconds"] == 2.0


def test_what_cannot_be_installed_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def python_of(calculator: Calculator, folder: Path) -> Path:
        if calculator.name == peers.OURS:
            return Path(sys.executable)
        raise subprocess.CalledProcessError(1, ["pip"], stderr="a warning\nERROR: No matching distribution found")

    def ask(calculator: Calculator, python: Path, runs: Sequence[Run], seconds: float) -> dict[str, dict[str, Any]]:
        return {run.id: {"bytes": run.row["result"]["steady_step"]["peak"], "seconds": 0.01} for run in runs}

    monkeypatch.setattr(peers, "python_of", python_of)
    monkeypatch.setattr(peers, "ask", ask)

    assert peers.main(["--cases", "2", "--only", "vramlint", "fitcheck-llm", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert peers.main(["--cases", "2", "--only", "vramlint", "fitcheck-llm"]) == 0
    shown = capsys.readouterr().out

    assert report["cases"] == 2
    assert report["calculators"]["vramlint"]["max_error"] == 0
    assert report["calculators"]["fitcheck-llm"] == {
        "version": "0.3.1",
        "skipped": "ERROR: No matching distribution found",
    }
    assert "skipped: ERROR: No matching distribution found" in shown


def test_every_calculator_has_an_adapter_and_a_release():
    for calculator in CALCULATORS:
        assert (Path(peers.__file__).parent / "calculators" / f"{calculator.adapter}.py").is_file()
        assert calculator.version or calculator.name == peers.OURS

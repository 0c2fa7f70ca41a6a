"""The bench on a GPU, as far as it goes without one: cases, records, figures, and a real step on the CPU."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli

from bench import accuracy, measured
from bench.cases import job_of
from bench.gpu import __main__ as runner
from bench.gpu import record, trainer_loop
from bench.gpu.dry import check
from bench.gpu.meter import Counters, Meter, Span
from bench.gpu.optimizers import OPTIMIZERS
from bench.gpu.process import fork_server, interpreter, run_case
from bench.gpu.steps import figures_of_steps
from bench.gpu.table import MODELS, read_cases
from vramlint.memory import simulate

GPU = "NVIDIA H200"
HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "accelerate", "peft"))


def case(name: str = "gpt2-fp32") -> dict[str, Any]:
    return next(row for row in read_cases() if row["id"] == name)


def measured_row(name: str = "gpt2-fp32", **figures: int) -> dict[str, Any]:
    """A row whose counters are those that are predicted, except for what `figures` say of the steady step."""
    row = {**case(name), "gpu": {"name": GPU, "memory": 150_000_000_000}, "outcome": record.DONE}
    estimate = simulate(job_of(row))
    phases = {phase.phase: phase for phase in estimate.phases}
    steady = {
        **{f"{name}_peak": phases[name].allocated for name in measured.STEP},
        "requested": {name: phases[name].allocated for name in measured.STEP},
        "reserved": {name: phases[name].reserved for name in measured.STEP},
        "device": {name: phases[name].reserved + 2 * estimate.outside for name in measured.STEP},
        "saved_activations": estimate.saved_activations,
    }
    row["result"] = {
        "parameter_bytes": {"float32": estimate.parameters},
        "grad_bytes": {"float32": estimate.gradients},
        "optimizer_state_bytes": {"float32": estimate.optimizer_states},
        "context": {"bytes": 2 * estimate.outside},
        "first_step": {"peak_requested": max(phase.allocated for phase in estimate.first_step)},
        "steady_step": {**steady, **figures},
        "seconds": 1.0,
    }
    if "evaluation" in phases:
        whole = phases["evaluation"]
        row["result"]["evaluation"] = {
            "allocated": whole.allocated,
            "requested": whole.allocated,
            "reserved": whole.reserved,
        }
    return row


# ---------------------------------------------------------------------- cases


def test_every_case_is_simulated_and_fits_the_card_it_is_made_for():
    rows = read_cases()
    checks = [check(row, GPU) for row in rows]

    assert len({row["id"] for row in rows}) == len(rows)
    assert {found.id: found.problems for found in checks if found.problems} == {}
    assert sum(found.fits for found in checks) >= 80
    assert {row["case"]["optimizer"] for row in rows} <= set(OPTIMIZERS)


def test_every_model_is_used():
    used = {row["case"]["model"] for row in read_cases()}

    assert used == set(tomli.loads(MODELS.read_text(encoding="utf-8")))


def test_dry_run_prints_one_object(capsys: pytest.CaptureFixture[str]):
    assert runner.main(["--dry-run", "--json", "--only", "gpt2-fp*", "--gpu", "rtx3090"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert [found["id"] for found in report["cases"]] == ["gpt2-fp32", "gpt2-fp16-scaler"]
    assert all(found["allocated"] > 10**10 and found["fits"] for found in report["cases"])


def test_a_case_that_is_too_large_for_the_gpu_is_said():
    assert not check(case("llama2-7b-bf16"), "rtx3090").fits


# ---------------------------------------------------------------------- records


def test_an_interrupted_line_spoils_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "new" / "h200.jsonl"
    record.append(path, measured_row())
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id":"torn","ca')
    record.append(path, {**measured_row(), "id": "after"})

    assert [row["id"] for row in record.rows_of(path)] == ["gpt2-fp32", "after"]
    assert ":2 is not JSON" in capsys.readouterr().err


def test_recorded_cases_need_no_run(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    for name, outcome, gpu in [
        ("done", record.DONE, GPU),
        ("broken", record.ERROR, GPU),
        ("elsewhere", record.DONE, "NVIDIA A100-SXM4-80GB"),
        ("repaired", record.OUT_OF_MEMORY, GPU),
        ("repaired", record.DONE, GPU),
    ]:
        record.append(path, {"id": name, "outcome": outcome, "gpu": {"name": gpu}})

    assert record.finished([path], GPU, again=False) == {"done", "broken", "repaired"}
    assert record.finished([path], GPU, again=True) == {"done", "repaired"}
    assert record.finished([tmp_path / "none"], GPU, again=False) == set()


@pytest.fixture(autouse=True)
def _nothing_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What the repository holds of a real GPU of this name is no concern of these tests."""
    monkeypatch.setattr(record, "MEASURED", tmp_path / "measured")


def options(path: Path, **changed: float) -> argparse.Namespace:
    usual = {"out": path, "limit_seconds": 1e9, "case_seconds": 60.0, "again": False, "new_interpreters": True}
    return argparse.Namespace(**{**usual, **changed})


def test_a_run_goes_on_where_the_last_one_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "rows.jsonl"
    outcomes = iter([record.DONE, record.OUT_OF_MEMORY, record.DONE])
    started: list[str] = []

    def run_case(row, device, seconds, gpu, *, start):
        started.append(row["id"])
        return {**row, "outcome": next(outcomes), "gpu": {"name": gpu}, "result": {}}

    monkeypatch.setattr(runner, "run_case", run_case)
    rows = read_cases()[:3]

    first = list(runner.run(rows[:2], options(path), GPU))
    second = list(runner.run(rows, options(path), GPU))

    assert [row["outcome"] for row in first] == [record.DONE, record.OUT_OF_MEMORY]
    assert started == [row["id"] for row in rows]
    assert [row["id"] for row in second] == [rows[2]["id"]]
    assert [row["id"] for row in record.rows_of(path)] == started


def test_no_case_begins_that_would_end_after_the_limit(tmp_path: Path):
    assert list(runner.run(read_cases(), options(tmp_path / "rows.jsonl", limit_seconds=5.0), GPU)) == []


def test_a_case_cut_off_by_the_limit_is_left_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "rows.jsonl"
    late = {"outcome": record.TIMEOUT, "gpu": {"name": GPU}}
    monkeypatch.setattr(runner, "run_case", lambda row, *rest, start: {**row, **late})

    assert list(runner.run(read_cases(), options(path, limit_seconds=30.0), GPU)) == []
    assert not path.exists()


def test_a_process_that_dies_is_an_error_with_its_last_words():
    for start in (interpreter, fork_server()):
        row = run_case({**case(), "task": "no-such-task"}, "cpu", 60.0, GPU, start=start)

        assert row["outcome"] == record.ERROR
        assert row["error"]


def test_a_process_that_takes_too_long_is_ended():
    for start in (interpreter, fork_server()):
        row = run_case(case(), "cpu", 0.01, GPU, start=start)

        assert row["outcome"] == record.TIMEOUT
        assert row["gpu"] == {"name": GPU}


def test_where_forks_cannot_use_the_gpu_interpreters_are_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    starts: list[Any] = []

    def run_case(row, device, seconds, gpu, *, start):
        starts.append(start)
        failed = {"outcome": record.ERROR, "error": "RuntimeError: Cannot re-initialize CUDA in forked subprocess."}
        return {**row, "gpu": {"name": gpu}, **({"outcome": record.DONE} if start is interpreter else failed)}

    monkeypatch.setattr(runner, "run_case", run_case)
    ran = list(runner.run(read_cases()[:2], options(tmp_path / "rows.jsonl", new_interpreters=False), GPU))

    assert [row["outcome"] for row in ran] == [record.DONE, record.DONE]
    assert [start is interpreter for start in starts] == [False, True, True]


def test_the_file_is_named_for_the_gpu():
    assert runner.file_of("NVIDIA A100-SXM4-80GB").name == "nvidia-a100-sxm4-80gb.jsonl"


# ---------------------------------------------------------------------- figures


class Steps:
    """A device on which each reading is 10 bytes above the last, and each peak 5 above what follows it."""

    def __init__(self) -> None:
        self.held = 0

    def now(self) -> Counters:
        self.held += 10
        return Counters(self.held, self.held - 1, self.held + 100, self.held + 1000)

    def restart(self) -> None:
        pass

    def peaks(self) -> Counters:
        return Counters(self.held + 5, self.held + 4, self.held + 105, self.held + 1000)


def test_phases_of_a_run_by_the_names_of_traced_rows(capsys: pytest.CaptureFixture[str]):
    meter = Meter(Steps())
    meter.begin("loading")
    for step in (0, 1):
        for phase in ("forward", "outputs", "backward", "after backward", "clip", "optimizer", "between steps"):
            meter.begin(phase, step)
    meter.begin("evaluation", 1)
    meter.end()

    found = figures_of_steps(meter.spans)
    spans = {(span.phase, span.step): span for span in meter.spans}
    steady = found["steady_step"]

    assert steady["start"] == spans["forward", 1].start.allocated
    assert steady["forward_end"] == spans["backward", 1].start.allocated
    assert steady["forward_peak"] == spans["outputs", 1].peak.allocated
    assert steady["saved_activations"] == spans["backward", 1].start.requested - spans["forward", 1].start.requested
    assert steady["peak"] == steady["optimizer_peak"] == spans["optimizer", 1].peak.allocated
    assert steady["peak_phase"] == "optimizer"
    assert steady["peak_reserved"] == steady["reserved"]["optimizer"] == steady["peak"] + 100
    assert found["first_step"]["peak"] < steady["start"]
    assert found["evaluation"]["allocated"] == spans["evaluation", 1].peak.allocated
    assert found["loading"]["device"] == spans["loading", 0].peak.device
    assert "forward of step 1" in capsys.readouterr().err


class Trainer:
    """A Trainer whose evaluation takes the loss of two batches."""

    def __init__(self) -> None:
        self.accelerator = SimpleNamespace(backward=lambda *_: None)

    def compute_loss(self) -> None:
        pass

    def evaluate(self) -> None:
        for _ in range(2):
            self.compute_loss()


def test_what_an_evaluation_computes_belongs_to_it(capsys: pytest.CaptureFixture[str]):
    trainer, meter = Trainer(), Meter(Steps())
    marks = trainer_loop._marks(object, trainer, meter)

    trainer.compute_loss()
    trainer.accelerator.backward()
    marks.on_step_end(None, None, None)
    trainer.evaluate()
    trainer.compute_loss()
    meter.end()

    phases = ["forward", "backward", "after backward", "evaluation", "forward"]
    assert [span.phase for span in meter.spans] == phases
    assert [span.step for span in meter.spans] == [0, 0, 0, 1, 1]
    capsys.readouterr()


def test_an_evaluation_that_was_not_measured_is_not_predicted():
    row = measured_row("qwen3-trainer-eval")
    del row["result"]["evaluation"]

    assert measured.measured_job(row).evaluation is None
    assert "evaluation" not in measured.compare(row, reserved=False).errors
    assert measured.compare(row, reserved=False).errors["requested"] == 0


def test_a_run_without_a_step_has_no_figures():
    with pytest.raises(ValueError, match="no step"):
        figures_of_steps([Span("loading", 0, Counters(), Counters(), Counters())])


def test_errors_of_a_measured_row_are_of_each_phase():
    row = measured_row("qwen3-trainer-eval")
    exact = measured.compare(row)
    steady = row["result"]["steady_step"]
    steady["requested"]["forward"] *= 2
    off = measured.compare(row)

    assert {name: error for name, error in exact.errors.items() if error} == {"outside": -0.5}
    assert {"forward", "evaluation", "reserved", "requested"} <= set(exact.errors)
    assert exact.phase_right
    assert exact.states_exact
    assert exact.verdict_right
    assert off.errors["forward"] == pytest.approx(-0.5)
    assert off.errors["requested"] < 0
    assert off.errors["allocated"] == 0
    assert not off.phase_right


def test_accuracy_reads_measured_rows_beside_traced_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "h200.jsonl"
    failed = {**measured_row("llama3-8b-amp"), "outcome": record.OUT_OF_MEMORY, "result": {}}
    failed["gpu"]["memory"] = 80_000_000_000
    for row in (measured_row(), failed, {**measured_row("t5-amp"), "outcome": record.ERROR, "result": {}}):
        record.append(path, row)
    traced = next(iter(record.rows_of(accuracy.DEFAULT_CASES[0])))
    record.append(path, traced)

    monkeypatch.setattr("sys.argv", ["accuracy.py", "--cases", str(path), "--json"])
    assert accuracy.main() == 0
    report = json.loads(capsys.readouterr().out)
    monkeypatch.setattr("sys.argv", ["accuracy.py", "--cases", str(path), "--worst", "1"])
    assert accuracy.main() == 0
    shown = capsys.readouterr().out

    found = report["measured"][GPU]
    assert report["n"] == 1
    assert found["n"] == 1
    assert found["outcomes"] == {"measured": 1, "out-of-memory": 1, "error": 1}
    assert found["verdict_right"] == 1.0
    assert found["errors"]["requested"] == {"n": 1, "median_error": 0.0, "max_error": 0.0, "worst_under": 0.0}
    assert "NVIDIA H200: measured 1, out-of-memory 1, error 1" in shown
    assert "saved activations" in shown


def test_measured_files_are_read_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(record, "MEASURED", tmp_path)
    record.append(tmp_path / "h200.jsonl", measured_row())

    assert record.measured_files() == [tmp_path / "h200.jsonl"]


# ---------------------------------------------------------------------- the real code


@pytest.mark.skipif(not HAS_TORCH, reason="needs torch, transformers, accelerate and peft")
@pytest.mark.parametrize(
    "changed",
    [
        {"loop": "trainer", "peft": {"r": 4, "targets": "all-linear"}, "checkpointing": "reentrant"},
        {"loop": "script", "accum": 2, "autocast": "bf16"},
        {"loop": "transformers", "eval": {"batch": 2, "samples": 4, "logits": True}},
    ],
    ids=lambda changed: changed["loop"],
)
def test_a_real_step_on_the_cpu(changed):
    row = case("gpt2-fp32" if "peft" not in changed else "llama1b-bf16")
    tiny = {"n_embd": 64, "n_layer": 2, "n_head": 4, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    tiny |= {"vocab_size": 200, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    config = {name: tiny.get(name, value) for name, value in row["config"].items()}
    small = {**row["case"], "batch": 2, "seq": 8, "param_dtype": "fp32", **changed}

    ran = run_case({**row, "config": config, "case": small}, "cpu", 120.0, "", start=fork_server())

    assert ran["outcome"] == "ran", ran.get("error")
    estimate = simulate(job_of(ran))
    assert sum(ran["result"]["parameter_bytes"].values()) == estimate.parameters
    assert sum(ran["result"]["grad_bytes"].values()) == estimate.gradients
    assert sum(ran["result"]["optimizer_state_bytes"].values()) == estimate.optimizer_states

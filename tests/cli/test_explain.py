"""`vramlint explain FILE`."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from tests.cli.conftest import Run


def test_text(vramlint: Run, script: Path) -> None:
    result = vramlint("explain", "train.py", "--gpu", "2GiB")
    assert result.code == 0
    assert result.out.startswith("train.py: does not fit: needs ")
    for heading in ("facts", "versions", "phases, GiB", "states", "rules of thumb"):
        assert f"\n{heading}\n" in result.out
    assert "per_device_train_batch_size, train.py:4:" in result.out


def test_json(vramlint: Run, script: Path) -> None:
    content = json.loads(vramlint("explain", "train.py", "--format", "json", "--gpu", "2GiB").out)
    schema = json.loads((files("vramlint") / "schemas" / "explain-1.json").read_text("utf-8"))
    jsonschema.validate(content, schema)
    (job,) = content["jobs"]
    facts = {fact["name"]: fact for fact in job["facts"]}
    assert (facts["micro_batch_size"]["value"], facts["micro_batch_size"]["location"]["line"]) == (4, 4)
    assert facts["model"]["value"] == "openai-community/gpt2"
    assert job["estimate"]["low"]["total_parameters"] == 124_439_808


def test_the_machine_beside_its_gpus(vramlint: Run, tmp_path: Path) -> None:
    zero = {"stage": 3, "offload_optimizer": {"device": "cpu", "pin_memory": False}}
    (tmp_path / "ds.json").write_text(json.dumps({"bf16": {"enabled": True}, "zero_optimization": zero}))
    (tmp_path / "train.py").write_text(
        "# vramlint: nvme=2TiB\n"
        "from transformers import AutoModelForCausalLM, Trainer, TrainingArguments\n"
        'model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")\n'
        'args = TrainingArguments("out", per_device_train_batch_size=1, bf16=True, deepspeed="ds.json")\n'
        "Trainer(model=model, args=args, train_dataset=data).train()\n"
    )
    options = ("explain", "train.py", "--gpu", "h100x8", "--nodes", "4", "--ram", "1TiB")
    text = vramlint(*options).out
    assert "\nhost memory of one machine (8 processes), GiB\n" in text
    assert "  declared  1024.00" in text
    assert "  NCCL, world (32 ranks)  0.64 GiB" in text
    content = json.loads(vramlint(*options, "--format", "json").out)
    jsonschema.validate(content, json.loads((files("vramlint") / "schemas" / "explain-1.json").read_text("utf-8")))
    (job,) = content["jobs"]
    node = job["estimate"]["high"]["node"]
    running = next(phase for phase in node["phases"] if phase["phase"] == "running")
    assert (node["processes"], node["pinned_bytes"], node["disk_bytes"]) == (8, 0, 0)
    assert running["bytes"] == pytest.approx(18 * 124_439_808 / 4, rel=1e-3)


def test_a_config_alone(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 4}')
    content = json.loads(vramlint("explain", "ds.json", "--format", "json").out)
    facts = {fact["name"]: fact["value"] for job in content["jobs"] for fact in job["facts"]}
    assert facts["zero_stage"] == 2
    assert facts["micro_batch_size"] == 4


def test_a_file_that_tells_nothing(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"name": "no training"}')
    result = vramlint("explain", "data.json")
    assert result.code == 1
    assert result.out == "data.json: no training run found\n"


def test_a_file_that_is_not_there(vramlint: Run) -> None:
    result = vramlint("explain", "absent.py")
    assert result.code == 1
    assert result.out.startswith("absent.py:1:1: ")


def test_timeline(vramlint: Run, script: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    plain = json.loads(vramlint("explain", "train.py", "--format", "json").out)

    assert vramlint("explain", "train.py", "--timeline", str(trace)).code == 0

    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    estimate = plain["jobs"][0]["estimate"]["high"]
    totals = [event["args"]["bytes"] for event in events if event["ph"] == "C" and event["name"] == "total"]
    assert max(totals) == estimate["allocated_bytes"]
    (peak,) = [event for event in events if event["name"] == "peak"]
    assert peak["args"]["phase"] == estimate["peak_phase"]
    slices = [event["name"] for event in events if event["ph"] == "X"]
    assert {"forward", "backward", "optimizer", "layer 0", "layer 11"} <= set(slices)


def test_no_timeline_without_a_simulated_step(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 4}')
    trace = tmp_path / "trace.json"
    result = vramlint("explain", "ds.json", "--timeline", str(trace))
    assert result.code == 2
    assert "no simulated step" in result.err
    assert not trace.exists()

"""`vramlint rule`, `vramlint gpus`, `vramlint models`."""

from __future__ import annotations

import json

from tests.cli.conftest import Run


def test_gpus(vramlint: Run) -> None:
    result = vramlint("gpus", "RTX 3090")
    assert result.code == 0
    head, first, *_ = result.out.splitlines()
    assert head.split()[:2] == ["id", "name"]
    assert first.startswith("rtx-3090 ")
    assert "23." in first


def test_gpus_as_json(vramlint: Run) -> None:
    gpus = json.loads(vramlint("gpus", "a100*", "--format", "json").out)["gpus"]
    assert {"a100-pcie-40gb", "a100-sxm4-80gb"} & {gpu["id"] for gpu in gpus} or len(gpus) > 1
    assert all(0 < gpu["usable_bytes"] <= gpu["memory_bytes"] for gpu in gpus)


def test_models(vramlint: Run) -> None:
    result = vramlint("models", "meta-llama/Llama-2-7b-hf")
    assert result.code == 0
    assert "6,738,415,616" in result.out


def test_models_as_json(vramlint: Run) -> None:
    models = json.loads(vramlint("models", "llama-2-7b-hf", "--format", "json").out)["models"]
    assert {"id", "architecture", "parameters", "dtype", "checked"} <= set(models[0])


def test_rules(vramlint: Run) -> None:
    listing = vramlint("rule")
    assert listing.code == 0
    assert any(line.startswith("VRAM101  exceeds-gpu-memory") for line in listing.out.splitlines())
    by_code, by_name = vramlint("rule", "VRAM101"), vramlint("rule", "exceeds-gpu-memory")
    assert by_code == by_name == vramlint("rule", "vram101")
    assert by_code.out.startswith("# VRAM101 exceeds-gpu-memory\n")
    assert "## Why it matters" in by_code.out


def test_rules_as_json(vramlint: Run) -> None:
    rules = json.loads(vramlint("rule", "--format", "json").out)["rules"]
    assert [rule["code"] for rule in rules] == sorted(rule["code"] for rule in rules)
    assert json.loads(vramlint("rule", "VRAM101", "--format", "json").out) == rules[0]

"""Real files, where they are at hand: `VRAMLINT_CORPUS` names a folder of DeepSpeed configs and hand-read facts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import extraction

CORPUS = os.environ.get("VRAMLINT_CORPUS", "")
pytestmark = pytest.mark.skipif(not CORPUS, reason="VRAMLINT_CORPUS is not set")


def test_every_deepspeed_config_can_be_explained() -> None:
    files = sorted(path for path in Path(CORPUS, "deepspeed-json").rglob("*") if path.suffix in (".json", ".jsonc"))
    assert files
    results = {path: extraction.explain(path) for path in files}
    assert {path.name: failure for path, (_, failure) in results.items() if failure} == {}


def test_deepspeed_configs_against_facts_read_by_hand(tmp_path: Path) -> None:
    path = Path(CORPUS, "expected_facts.json")
    rows = json.loads(path.read_text(encoding="utf-8"))
    copied = {key: row for key, row in rows.items() if row.get("file") and row.get("framework") == "deepspeed-json"}
    report = extraction.measure(copied, tmp_path, path.parent)
    assert report["absent"] == []
    assert report["crashed"] == {}
    assert report["claimed_wrong"] == 0
    assert report["right_fraction"] >= 0.85

"""`--write-baseline` and `--baseline`."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from tests.cli.conftest import SCRIPT, Run
from tests.report.test_machine_formats import schema

GPU = "--gpu=2GiB"


def test_known_findings_are_left_out(vramlint: Run, script: Path, tmp_path: Path) -> None:
    assert vramlint(GPU).code == 1
    result = vramlint(GPU, "--write-baseline")
    assert (result.code, result.out, result.err) == (0, "", "wrote 1 findings to vramlint-baseline.json\n")
    written = json.loads((tmp_path / "vramlint-baseline.json").read_text())
    jsonschema.validate(written, schema("baseline-1"))
    result = vramlint(GPU, "--baseline", "vramlint-baseline.json")
    assert (result.code, result.out) == (0, "")
    assert result.err.endswith("found nothing; 1 in the baseline\n")
    assert json.loads(vramlint(GPU, "--baseline=vramlint-baseline.json", "--format=json").out)["summary"]["known"] == 1


def test_lines_that_move_stay_known_and_values_that_change_do_not(vramlint: Run, script: Path) -> None:
    vramlint(GPU, "--write-baseline", "--baseline", "known.json")
    script.write_text("\n\n" + SCRIPT)
    assert vramlint(GPU, "--baseline", "known.json").code == 0
    script.write_text(SCRIPT.replace("batch_size=4", "batch_size=8"))
    result = vramlint(GPU, "--baseline", "known.json")
    assert result.code == 1
    assert "known.json: no longer found: train.py: VRAM101; --write-baseline leaves them out" in result.err


def test_the_baseline_of_the_settings(vramlint: Run, script: Path, tmp_path: Path) -> None:
    (tmp_path / "vramlint.toml").write_text('baseline = "known.json"\ngpu = "2GiB"\n')
    assert vramlint().code == 2  # it is named, and is not there
    assert vramlint("--write-baseline").code == 0
    (tmp_path / "sub").mkdir()
    assert vramlint("train.py").code == 0
    assert vramlint("--isolated", GPU).code == 1


def test_nothing_known_is_fixed(vramlint: Run, script: Path) -> None:
    vramlint(GPU, "--write-baseline")
    before = script.read_text()
    assert vramlint(GPU, "--baseline=vramlint-baseline.json", "--fix", "--unsafe-fixes").code == 0
    assert script.read_text() == before


def test_what_cannot_be_read(vramlint: Run, script: Path, tmp_path: Path) -> None:
    (tmp_path / "known.json").write_text('{"version": 1, "findings": [{}]}')
    for name, words in (("known.json", "findings[0] needs"), ("nowhere.json", "cannot read nowhere.json")):
        result = vramlint(GPU, "--baseline", name)
        assert (result.code, result.out) == (2, "")
        assert words in result.err


def test_commands_without_findings_do_not_ask_for_it(vramlint: Run, script: Path, tmp_path: Path) -> None:
    (tmp_path / "vramlint.toml").write_text('baseline = "not-yet.json"\n')
    assert vramlint("explain", "train.py").code == 0
    assert vramlint("diff", "train.py", "train.py").code == 0

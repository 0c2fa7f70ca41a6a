"""The bench of fixes: a project with a misfit, and what it would call torn."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import fixes
from bench.untouched import untouched
from tests.cli.conftest import SCRIPT
from vramlint.text import Document, Edit, Place, Span

CORPUS = os.environ.get("VRAMLINT_CORPUS", "")
QUICK = ("deepspeed-json", "litgpt", "trl")
"""Folders whose runs are simulated in seconds; the bench takes all."""


def test_a_project_is_fixed_and_stays_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "root" / "project"
    project.mkdir(parents=True)
    (project / "train.py").write_text(SCRIPT)
    diffs = tmp_path / "all.diff"
    code = fixes.main(["--root", str(tmp_path / "root"), "--gpu", "3GiB", "--json", "--diffs", str(diffs)])
    total = json.loads(capfd.readouterr().out)["total"]
    assert code == 0
    assert (total["made"], total["promised"], total["kept"], total["unstable"], total["torn"]) == (1, 1, 1, 0, [])
    assert (project / "train.py").read_text() == SCRIPT
    assert "+++ project/train.py\n" in diffs.read_text()


def test_a_byte_beside_an_edit_is_seen() -> None:
    before = "a: é # x\nb: 2\n"
    document = Document.of("a.yaml", before)
    edits = [Edit(Place("a.yaml", Span(1, 4, 1, 5)), "3")]
    for after, whole in (("a: 3 # x\nb: 2\n", True), ("a: 3 # x\nb: 2", False), ("a: 3  # x\nb: 2\n", False)):
        assert untouched(before.encode(), after.encode(), document, edits, notebook=False) is whole


@pytest.mark.skipif(not CORPUS, reason="VRAMLINT_CORPUS is not set")
def test_corpus() -> None:
    roots = [Path(CORPUS) / name for name in QUICK]
    total = fixes.total(fixes.measure(roots, ["rtx3090"]))
    assert total["made"] > 0
    assert {name: total[name] for name in (*fixes.LISTS, "unsettled", "unstable")} == {
        **{name: [] for name in fixes.LISTS},
        "unsettled": 0,
        "unstable": 0,
    }


def test_listed_files_are_fixed_one_by_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "root" / "project"
    project.mkdir(parents=True)
    for name in ("one.py", "two.py", "three.py"):
        (project / name).write_text(SCRIPT)
    names = tmp_path / "list"
    names.write_text("project/one.py\nproject/two.py\n")
    code = fixes.main(["--root", str(tmp_path / "root"), "--list", str(names), "--gpu", "3GiB", "--json"])
    report = json.loads(capfd.readouterr().out)
    assert code == 0
    assert {name: row["made"] for name, row in report["projects"].items()} == {
        "project/one.py@3GiB": 1,
        "project/two.py@3GiB": 1,
    }
    assert (project / "one.py").read_text() == SCRIPT

"""The bench of fixes: a project with a misfit, and what it would call torn."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import fixes
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
        assert fixes.untouched(before.encode(), after.encode(), document, edits, notebook=False) is whole


@pytest.mark.skipif(not CORPUS, reason="VRAMLINT_CORPUS is not set")
def test_corpus() -> None:
    roots = [Path(CORPUS) / name for name in QUICK]
    total = fixes.total(fixes.measure(roots, ["rtx3090"], None))
    assert total["made"] > 0
    assert {name: total[name] for name in (*fixes.LISTS, "unsettled", "unstable")} == {
        **{name: [] for name in fixes.LISTS},
        "unsettled": 0,
        "unstable": 0,
    }

"""`vramlint diff`: revisions of git, and two paths."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.cli.conftest import SCRIPT, Run
from tests.report.test_machine_formats import schema

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def git(*arguments: str) -> None:
    subprocess.run(["git", *IDENTITY, *arguments], check=True, capture_output=True)


@pytest.fixture
def history(vramlint: Run, tmp_path: Path) -> Run:
    """Two commits: the second doubles the sequence length. A third state, not committed, halves the batch."""
    (tmp_path / ".git").rmdir()
    git("init", "-q")
    for number, text in enumerate((SCRIPT, SCRIPT.replace("length=512", "length=1024"))):
        (tmp_path / "train.py").write_text(text, encoding="utf-8")
        (tmp_path / "notes.txt").write_text(str(number), encoding="utf-8")
        git("add", "-A")
        git("commit", "-q", "-m", str(number))
    text = (tmp_path / "train.py").read_text(encoding="utf-8")
    (tmp_path / "train.py").write_text(text.replace("batch_size=4", "batch_size=2"), encoding="utf-8")
    return vramlint


def test_a_rise_is_said_with_its_cause(history: Run) -> None:
    result = history("diff", "HEAD~1..HEAD")
    assert (result.code, result.err) == (0, "")
    first, last = result.out.splitlines()
    assert first.startswith("train.py: peak from ")
    assert first.endswith(": sequence length 512 → 1024)")
    assert last == "HEAD~1 → HEAD: 1 run changed, 0 unchanged"


def test_a_revision_alone_is_held_against_the_files_as_they_are(history: Run) -> None:
    result = history("diff", "HEAD", "--format", "json")
    (changed,) = json.loads(result.out)["changed"]
    assert [(cause["name"], cause["before"], cause["after"]) for cause in changed["causes"]] == [
        ("micro batch size", "4", "2")
    ]
    assert changed["rise_bytes"] < 0


def test_causes_add_up(history: Run) -> None:
    found = json.loads(history("diff", "HEAD~1", "--format", "json").out)
    jsonschema.validate(found, schema("diff-1"))
    (changed,) = found["changed"]
    assert {cause["name"] for cause in changed["causes"]} == {"micro batch size", "sequence length"}
    assert sum(cause["rise_bytes"] for cause in changed["causes"]) == changed["rise_bytes"]
    assert changed["after"]["need_bytes"] - changed["before"]["need_bytes"] == changed["rise_bytes"]


def test_nothing_is_left_behind(history: Run, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    history("diff", "HEAD~1..HEAD")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(("limit", "code"), [("0", 1), ("1%", 1), ("1MiB", 1), ("900%", 0), ("1TiB", 0)])
def test_a_gate(history: Run, limit: str, code: int) -> None:
    result = history("diff", "HEAD~1..HEAD", "--max-increase", limit)
    assert result.code == code
    assert ("the peak rises by more than" in result.err) == bool(code)


def test_the_gate_of_the_settings(history: Run, tmp_path: Path) -> None:
    (tmp_path / "vramlint.toml").write_text('max-increase = "1%"\n', encoding="utf-8")
    assert history("diff", "HEAD~1..HEAD").code == 1
    (tmp_path / "vramlint.toml").write_text('max-increase = "much"\n', encoding="utf-8")
    result = history("diff", "HEAD~1..HEAD")
    assert (result.code, "max-increase" in result.err) == (2, True)


def test_a_run_that_no_longer_fits(history: Run) -> None:
    fitting = "--gpu=8GiB"
    result = history("diff", "HEAD~1..HEAD", fitting, "--format", "markdown")
    assert "no longer fits" in result.out
    assert result.out.startswith("### GPU memory\n")
    assert "| `train.py` |" in result.out


def test_new_and_gone_runs(history: Run, tmp_path: Path) -> None:
    (tmp_path / "train.py").rename(tmp_path / "other.py")
    lines = history("diff", "HEAD").out.splitlines()
    assert lines[0].startswith(("other.py: new, needs ", "train.py: gone, needs "))
    assert lines[-1] == "HEAD → the files as they are: 2 runs changed, 0 unchanged"


def test_paths_narrow_it_down(history: Run, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert history("diff", "HEAD", "sub").out == "HEAD → the files as they are: 0 runs changed, 0 unchanged\n"
    result = history("diff", "HEAD", "..")
    assert (result.code, "outside of the repository" in result.err) == (2, True)


def test_two_files(vramlint: Run, tmp_path: Path) -> None:
    for folder, text in (("old", SCRIPT), ("new", SCRIPT.replace("adamw_torch", "sgd"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.py").write_text(text, encoding="utf-8")
    for names in (("old", "new"), ("old/train.py", "new/train.py")):
        result = vramlint("diff", *names)
        assert result.code == 0
        assert "optimizer adamw_torch → sgd" in result.out
        assert result.out.splitlines()[-1] == f"{names[0]} → {names[1]}: 1 run changed, 0 unchanged"
    same = vramlint("diff", "old", "old")
    assert same.out == "old → old: 0 runs changed, 1 unchanged\n"


@pytest.mark.parametrize("word", ["nowhere", "--output=x", "nowhere..HEAD", "HEAD..nowhere"])
def test_what_is_no_revision(history: Run, word: str) -> None:
    result = history("diff", word)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1


def test_links_and_large_files_are_left_out(history: Run, tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    (tmp_path / "data.py").write_bytes(b"#" * 30_000_000)
    git("add", "-A")
    git("commit", "-q", "-m", "more")
    assert history("diff", "HEAD~1..HEAD").out.splitlines()[-1].endswith("1 run changed, 0 unchanged")

"""`vramlint init`: what it finds, what it writes, and what it leaves alone."""

from __future__ import annotations

import stat

import pytest
import tomli
import yaml

from vramlint import __version__

LAUNCHER = """\
#!/bin/bash
#SBATCH --gres=gpu:a100:4
torchrun --nproc_per_node 4 train.py
"""


def test_an_empty_folder_gets_the_three_files(vramlint, tmp_path):
    result = vramlint("init")

    assert result.code == 0
    assert "found 0 training jobs" in result.out
    assert yaml.safe_load((tmp_path / ".pre-commit-config.yaml").read_text())["repos"][0]["rev"] == f"v{__version__}"
    workflow = yaml.safe_load((tmp_path / ".github/workflows/vramlint.yml").read_text())
    assert workflow["jobs"]["vramlint"]["steps"][-1]["run"] == "vramlint --format github"
    assert tomli.loads((tmp_path / "vramlint.toml").read_text()) == {}


def test_it_names_the_jobs_without_a_gpu_and_leaves_a_line_to_fill_in(vramlint, script, tmp_path):
    result = vramlint("init")

    assert "found 1 training job in 1 file" in result.out
    assert "no file says on which GPU these run: train.py" in result.out
    assert '# gpu = "a100-80gb"' in (tmp_path / "vramlint.toml").read_text()


def test_hardware_of_the_job_files_is_said(vramlint, script, tmp_path):
    (tmp_path / "run.sh").write_text(LAUNCHER)

    result = vramlint("init", "--dry-run")

    assert "1 job on a100" in result.out
    assert "4 GPUs" in result.out


def test_a_named_gpu_goes_into_the_settings_and_they_are_read(vramlint, script):
    assert vramlint("init", "--gpu", "rtx3090").code == 0

    assert "RTX 3090 (the settings file)" in vramlint("explain", "train.py").out


def test_a_pyproject_is_extended_and_the_rest_of_it_kept(vramlint, tmp_path):
    before = '[project]\r\nname = "x"  # mine\r\n'
    (tmp_path / "pyproject.toml").write_text(before, newline="")
    (tmp_path / "pyproject.toml").chmod(0o640)

    vramlint("init", "--gpu", "h100")

    after = (tmp_path / "pyproject.toml").read_bytes().decode()
    assert after == before + '\r\n[tool.vramlint]\r\ngpu = "h100"\r\n'
    assert stat.S_IMODE((tmp_path / "pyproject.toml").stat().st_mode) == 0o640
    assert not (tmp_path / "vramlint.toml").exists()


def test_the_hook_joins_a_list_in_its_own_indentation(vramlint, tmp_path):
    before = "repos:\n-   repo: https://github.com/psf/black\n    rev: 23.3.0\n    hooks:\n    -   id: black   # mine"
    (tmp_path / ".pre-commit-config.yaml").write_text(before)

    vramlint("init")

    after = (tmp_path / ".pre-commit-config.yaml").read_text()
    assert after.startswith(before + "\n")
    assert [repo["hooks"][0]["id"] for repo in yaml.safe_load(after)["repos"]] == ["black", "vramlint"]


@pytest.mark.parametrize(
    "text", ["repos: []\nci: {skip: [x]}\n", "ci: {}\nrepos: [{repo: local, hooks: []}]\n", "- 1\n"]
)
def test_a_list_that_cannot_be_extended_surely_is_left_alone(vramlint, tmp_path, text):
    (tmp_path / ".pre-commit-config.yaml").write_text(text)

    assert "left alone: ./.pre-commit-config.yaml" in vramlint("init").out
    assert (tmp_path / ".pre-commit-config.yaml").read_text() == text


def test_twice_changes_nothing_the_second_time(vramlint, tmp_path):
    vramlint("init")
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    result = vramlint("init")

    assert result.out.count("left alone") == 3
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == written


def test_a_dry_run_writes_nothing(vramlint, tmp_path):
    result = vramlint("init", "-n")

    assert "+++ ./vramlint.toml" in result.out
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_cannot_be_written_is_one_line(vramlint, tmp_path):
    (tmp_path / ".github").write_text("a file, not a folder")

    result = vramlint("init")

    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "vramlint.yml" in result.err


def test_a_missing_folder_is_one_line(vramlint):
    assert vramlint("init", "nowhere").err == "vramlint: error: nowhere is no folder\n"

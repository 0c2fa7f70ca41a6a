from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.packaging.conftest import git


def test_hook_blocks_what_does_not_fit(index: None, checkout: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    for example in ("full-finetune-7b", "qlora-7b"):
        shutil.copytree(checkout / "examples" / example, project / example)
    (project / "vramlint.toml").write_text('gpu = "rtx3090"\n', encoding="utf-8")
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    files = git(project, "ls-files").split()
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "try-repo", str(checkout), "vramlint", "--files", *files],
        cwd=project,
        env={**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "cache")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "hook id: vramlint" in done.stdout
    assert "VRAM101" in done.stdout
    assert "full-finetune-7b/train.py" in done.stdout
    assert "qlora-7b/train.py:" not in done.stdout

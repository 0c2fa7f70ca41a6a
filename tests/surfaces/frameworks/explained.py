"""What `vramlint explain` and `check` say of files, as tests of frameworks ask it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from vramlint.__main__ import main

Job = Mapping[str, Any]


class Explained:
    """Writes files into a folder of its own and asks vramlint about them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._capsys = capsys
        patch.chdir(folder)

    def write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")

    def jobs(self, name: str, text: str) -> list[Job]:
        self.write(name, text)
        main(["explain", "--format", "json", str(self._folder / name)])
        jobs: list[Job] = json.loads(self._capsys.readouterr().out)["jobs"]
        return jobs

    def job(self, name: str, text: str) -> Job:
        jobs = self.jobs(name, text)
        assert len(jobs) == 1, [job["path"] for job in jobs]
        return jobs[0]

    def findings(self, name: str, text: str, part: str = "key") -> list[str]:
        """Messages of the findings whose name has a part, with what is suggested."""
        self.write(name, text)
        main(["check", "--format", "json", str(self._folder / name)])
        found = json.loads(self._capsys.readouterr().out)["findings"]
        return [
            " ".join([item["message"], *(label["text"] for label in item["labels"])])
            for item in found
            if part in item["name"]
        ]


def value(job: Job, name: str) -> object:
    """The only value of a fact; None when it is not known."""
    fact = next((fact for fact in job["facts"] if fact["name"] == name), None)
    assert fact is not None, f"{name} is not said"
    return fact["candidates"][0]["value"] if len(fact["candidates"]) == 1 else None


def values(job: Job, *names: str) -> dict[str, object]:
    return {name: value(job, name) for name in names}


def origin(job: Job, name: str) -> str:
    return next(str(fact["origin"]) for fact in job["facts"] if fact["name"] == name)


def line(job: Job, name: str) -> int:
    return next(int(fact["location"]["line"]) for fact in job["facts"] if fact["name"] == name)

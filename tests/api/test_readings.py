"""Programs that are read once, for as long as nothing that their reading asked for changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from vramlint.api.readings import MOST, Readings
from vramlint.readers import python
from vramlint.text import Document, Place, Span
from vramlint.values import Invocation, Plain, Scalar

HERE = Place("run.sh", Span(1, 1, 1, 2))
PROGRAM = """\
import argparse
import json
import os
import torch
import transformers
from sizes import batch

parser = argparse.ArgumentParser()
parser.add_argument("--settings")
args = parser.parse_args()
settings = json.load(open(args.settings))
torch.f(batch, settings["rank"], os.environ["WORLD_SIZE"], transformers.__version__)
"""
FILES = {"train.py": PROGRAM, "sizes.py": "batch = 8\n", "a.json": '{"rank": 4}', "b.json": '{"rank": 5}'}
KNOWN: Mapping[str, Plain] = {'os.environ["WORLD_SIZE"]': "2", "transformers.__version__": "5.0"}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scripts that are really read, as they are read."""
    started: list[str] = []
    own = python.read_program

    def read_program(document: Document, *rest: Any, **more: Any) -> Any:
        started.append(document.path)
        return own(document, *rest, **more)

    monkeypatch.setattr(python, "read_program", read_program)
    return started


def arguments(
    readings: Readings,
    files: Mapping[str, str] = FILES,
    known: Mapping[str, Plain] = KNOWN,
    words: tuple[Plain, ...] = ("--settings", "a.json"),
    asked: list[str] | None = None,
) -> list[object]:
    """What `f` is called with."""

    def find(path: str) -> Document | None:
        if asked is not None:
            asked.append(path)
        return Document.of(path, files[path]) if path in files else None

    program, problems = readings.read(
        Document.of("train.py", files["train.py"]),
        known,
        lambda name: find(f"{name}.py"),
        invocation=Invocation(tuple(Scalar(word, HERE) for word in words)),
        files=find,
    )
    assert program is not None
    assert problems == ()
    made = next(call for call in program.calls if call.callee == "torch.f")
    return [getattr(item, "value", None) for item in made.args]


def test_the_same_is_read_once(read: list[str]) -> None:
    readings = Readings()
    assert arguments(readings) == arguments(readings) == [8, 4, "2", "5.0"]
    assert read == ["train.py"]


def test_what_changes_is_read_again_and_what_was_there_before_is_not(read: list[str]) -> None:
    readings = Readings()
    first = arguments(readings)
    changes: list[tuple[Mapping[str, Any], list[object]]] = [
        ({"files": {**FILES, "sizes.py": "batch = 9\n"}}, [9, 4, "2", "5.0"]),
        ({"files": {**FILES, "a.json": '{"rank": 6}'}}, [8, 6, "2", "5.0"]),
        ({"files": {**FILES, "train.py": PROGRAM.replace("f(batch", "f(batch * 2")}}, [16, 4, "2", "5.0"]),
        ({"known": {**KNOWN, 'os.environ["WORLD_SIZE"]': "4"}}, [8, 4, "4", "5.0"]),
        ({"known": {**KNOWN, "transformers.__version__": "4.0"}}, [8, 4, "2", "4.0"]),
        ({"words": ("--settings", "b.json")}, [8, 5, "2", "5.0"]),
    ]
    for change, expected in changes:
        assert arguments(readings, **change) == expected, change
    assert len(read) == 1 + len(changes)
    assert arguments(readings) == first
    for change, expected in changes:
        assert arguments(readings, **change) == expected, change
    assert len(read) == 1 + len(changes)


def test_a_file_that_comes_or_an_answer_that_goes_is_noticed(read: list[str]) -> None:
    readings = Readings()
    without = {path: text for path, text in FILES.items() if path != "sizes.py"}
    assert arguments(readings, without)[0] is None
    assert arguments(readings)[0] == 8
    assert arguments(readings, known={})[2:] != ["2", "5.0"]
    assert arguments(readings)[2:] == ["2", "5.0"]
    assert len(read) == 3


def test_what_equals_in_python_alone_is_told_apart(read: list[str]) -> None:
    readings = Readings()
    asked: Mapping[str, Plain] = {**KNOWN, "transformers.__version__": 1}
    true: Mapping[str, Plain] = {**KNOWN, "transformers.__version__": True}
    assert [type(arguments(readings, known=known)[3]) for known in (asked, true)] == [int, bool]
    assert len(read) == 2


def test_an_earlier_reading_asks_for_the_same_files(read: list[str]) -> None:
    readings = Readings()
    first: list[str] = []
    second: list[str] = []
    arguments(readings, asked=first)
    arguments(readings, asked=second)
    assert list(dict.fromkeys(first)) == second
    assert second == ["sizes.py", "a.json"]
    assert len(read) == 1


def test_a_reading_that_looks_at_all_answers_is_not_kept(monkeypatch: pytest.MonkeyPatch, read: list[str]) -> None:
    seen: list[list[str]] = []
    own = python.read_program

    def read_program(document: Document, known: Mapping[str, Plain], *rest: Any, **more: Any) -> Any:
        seen.append([*known][: len(known)])
        return own(document, known, *rest, **more)

    monkeypatch.setattr(python, "read_program", read_program)
    readings = Readings()
    assert arguments(readings) == arguments(readings)
    assert seen == [[*KNOWN], [*KNOWN]]
    assert len(read) == 2


def test_only_so_many_are_kept(read: list[str]) -> None:
    readings = Readings()
    for number in range(MOST + 1):
        readings.read(Document.of("a.py", f"f({number})"), {})
    readings.read(Document.of("a.py", f"f({MOST})"), {})
    assert len(read) == MOST + 1
    readings.read(Document.of("a.py", "f(0)"), {})
    assert len(read) == MOST + 2


def test_the_sheet_of_a_program_is_made_once() -> None:
    readings = Readings()
    programs = [readings.read(Document.of(f"{number}.py", "f()"), {})[0] for number in range(MOST + 2)]
    for program in programs:
        assert program is not None
        assert readings.sheet(program).path == program.path
        assert readings.sheet(program) is readings.sheet(program)

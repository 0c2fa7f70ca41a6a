"""Plans are read again as far as their own run goes, and no further."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

import pytest

from tests.api.test_launching import DS, RULES, TRAIN
from vramlint.api import Hardware, SourceFile, Surroundings
from vramlint.api.checking import Checker
from vramlint.api.fitting import Fitter, Request, opened
from vramlint.discovery.forms import form_of
from vramlint.job import Job
from vramlint.readers import python
from vramlint.settings import Settings
from vramlint.text import Document

SCRIPT = TRAIN.replace("truncation=True", 'truncation=True, padding="max_length"')
BOTH = """\
python train.py --output_dir out --per_device_train_batch_size 2
python train.py --output_dir out --per_device_train_batch_size 4 --deepspeed ds.json
"""
FILES = {"run.sh": BOTH, "train.py": SCRIPT, "ds.json": DS}
FIRST, SECOND = "run.sh:1 runs train.py", "run.sh:2 runs train.py + ds.json"


def surroundings(files: Mapping[str, str]) -> Surroundings:
    data = {path: text.encode() for path, text in files.items()}

    def names(folder: str) -> list[str]:
        inside = [path for path in data if folder in (".", "") or path.startswith(f"{folder}/")]
        return sorted({posixpath.relpath(path, folder or ".").split("/")[0] for path in inside})

    return Surroundings(load=data.get, names=names, around=lambda _: tuple(data), hardware=Hardware("rtx3090x1"))


def fitter_of(files: Mapping[str, str], given: str) -> Fitter:
    source = SourceFile(given, form_of(given), files[given].encode(), explicit=True)
    return opened([source], lambda _: Settings(), surroundings(files), Request())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes with which the script is started, as it is read."""
    started: list[int] = []
    own = python.read_program

    def read_program(document: Document, *rest: Any, **more: Any) -> Any:
        if more.get("invocation") is not None:
            words = [str(getattr(word, "value", "")) for word in more["invocation"].arguments]
            started.append(int(words[words.index("--per_device_train_batch_size") + 1]))
        return own(document, *rest, **more)

    monkeypatch.setattr(python, "read_program", read_program)
    return started


def again(fitter: Fitter, name: str, **edited: str) -> tuple[Job, ...]:
    """The jobs of a run when files hold these texts; `run_sh` is run.sh."""
    found = next(item for item in fitter._runs if item.run.name == name)
    documents = {
        path: Document.of(path, text) for path, text in ((key.replace("_", "."), edited[key]) for key in edited)
    }
    return fitter._jobs_again(found.subject, found.contents, name, documents)


def test_an_edit_of_the_launcher_reads_the_start_that_it_changes(read: list[int]) -> None:
    fitter = fitter_of(FILES, "run.sh")
    assert [found.run.name for found in fitter._runs] == [FIRST, SECOND]
    assert read == [2, 4]
    read.clear()
    *_, job = again(fitter, FIRST, run_sh=BOTH.replace("size 2", "size 1"))
    assert (job.batch.micro_batch_size, job.parallelism.strategy, read) == (1, "none", [1])
    read.clear()
    *_, job = again(fitter, SECOND, run_sh=BOTH.replace("size 2", "size 1"))
    assert (job.batch.micro_batch_size, read) == (4, [])


def test_an_edit_of_the_shared_script_is_read_for_the_run_alone(read: list[int]) -> None:
    fitter = fitter_of(FILES, "run.sh")
    for name, batch in ((FIRST, 2), (SECOND, 4)):
        read.clear()
        *_, job = again(fitter, name, train_py=SCRIPT.replace("default=512", "default=256"))
        assert (job.batch.sequence_length, job.batch.micro_batch_size, read) == (256, batch, [batch])


def test_an_edit_of_what_a_flag_names_is_seen_without_reading_anything(read: list[int]) -> None:
    fitter = fitter_of(FILES, "run.sh")
    read.clear()
    *_, before = again(fitter, SECOND)
    *_, job = again(fitter, SECOND, ds_json=DS.replace("3", "2"))
    assert [item.parallelism.zero and item.parallelism.zero.stage for item in (before, job)] == [3, 2]
    assert read == []


def test_a_run_that_is_called_otherwise_after_an_edit_is_not_there(read: list[int]) -> None:
    """A line above a command gives its run another name, as it does when the edited file is read by itself."""
    fitter = fitter_of(FILES, "run.sh")
    assert again(fitter, FIRST, run_sh=f"export A=1\n{BOTH}") == ()
    *_, job = again(fitter, FIRST, run_sh=BOTH + "\n")
    assert job.batch.micro_batch_size == 2


def test_all_of_a_launcher_is_read_where_it_starts_more_or_less(read: list[int]) -> None:
    fitter = fitter_of(FILES, "run.sh")
    read.clear()
    more = BOTH + "python train.py --output_dir out --per_device_train_batch_size 8\n"
    *_, job = again(fitter, FIRST, run_sh=more)
    assert (job.batch.micro_batch_size, read) == (2, [8])
    assert again(fitter, FIRST, run_sh=BOTH.splitlines()[0]) == ()  # alone, it needs no line to be told by


def test_a_script_that_an_edit_breaks_gives_no_jobs(read: list[int]) -> None:
    files = {**FILES, "run.sh": BOTH.replace("train.py", "other.py", 1), "other.py": SCRIPT}
    fitter = fitter_of(files, "run.sh")
    assert again(fitter, SECOND)
    assert again(fitter, SECOND, train_py=SCRIPT + "broken(\n") == ()
    assert again(fitter, SECOND, other_py=SCRIPT + "broken(\n") == ()


def test_nothing_is_read_where_a_file_has_trouble_that_an_edit_leaves_alone(read: list[int]) -> None:
    fitter = fitter_of({**FILES, "run.sh": BOTH + "if true; then\n"}, "run.sh")
    for found in fitter._runs:
        read.clear()
        assert found.contents.problems
        assert again(fitter, found.run.name, train_py=f"{SCRIPT}#{found.run.name}") == ()
        assert read == []


def test_nothing_is_left_out_where_an_edit_may_end_trouble(read: list[int]) -> None:
    fitter = fitter_of({**FILES, "run.sh": BOTH + "if true; then\n"}, "run.sh")
    read.clear()
    assert again(fitter, FIRST, run_sh=BOTH + "if true; then :\n", train_py=f"{SCRIPT}#1") == ()
    assert read == [2, 4]
    *_, job = again(fitter, FIRST, run_sh=BOTH, train_py=f"{SCRIPT}#2")
    assert job.batch.micro_batch_size == 2


def test_the_jobs_are_those_of_the_edited_files_by_themselves() -> None:
    edits = {
        "run.sh": BOTH.replace("size 4", "size 1"),
        "train.py": SCRIPT.replace("default=512", "default=128"),
        "ds.json": DS.replace("3", "1"),
    }
    fitter = fitter_of(FILES, "run.sh")
    for path, text in edits.items():
        fresh = fitter_of({**FILES, path: text}, "run.sh")
        for found in fresh._runs:
            assert again(fitter, found.run.name, **{path.replace(".", "_"): text}) == found.run.jobs, (path, found)


def test_fixes_are_tried_on_the_run_that_they_are_for(read: list[int]) -> None:
    """The second start does not fit, and is read again with other words; the first is as it was."""
    run = BOTH.replace("--deepspeed ds.json", "--bf16 True --model_name_or_path EleutherAI/pythia-2.8b")
    files = {**FILES, "run.sh": run}
    checker = Checker(lambda _: Settings(), lambda _: RULES, surroundings(files))
    subject = checker.open(SourceFile("run.sh", "shell", run.encode(), explicit=True))
    assert subject is not None
    checker.judge([subject])
    found = [item for item in checker.report().findings if item.fix is not None and item.fix.edits(unsafe=True)]
    assert [item.place.span.line for item in found] == [2]
    assert read[:2] == [2, 4]
    assert len(read) > 2
    assert 2 not in read[2:]


def test_a_fix_of_the_shared_script_is_tried_on_its_run_alone(read: list[int]) -> None:
    checker = Checker(lambda _: Settings(), lambda _: RULES, surroundings(FILES))
    subject = checker.open(SourceFile("run.sh", "shell", BOTH.encode(), explicit=True))
    assert subject is not None
    before = checker._read(subject, subject.document, subject.context)
    assert [before.start_of(number) for number in range(2)] == [0, 1]
    read.clear()
    edited = {"train.py": Document.of("train.py", SCRIPT.replace("default=512", "default=64"))}
    trial = checker._retry(subject, before, (1, 0), edited)
    assert trial is not None
    assert read == [4]

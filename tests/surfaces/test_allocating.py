"""The allocator's settings as edits of what says them, or of the command that starts the program."""

from __future__ import annotations

import pytest

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.allocating import write_settings
from vramlint.text import Document, Place, apply_edits

SETTING = "expandable_segments:True"


def fact(name: str, value: str, document: Document, at: str, key: str = "") -> Fact:
    start = document.text.index(at)
    return Fact(
        name, (Candidate(value, Place(document.path, document.span(start, start + len(at)))),), Origin.WRITTEN, key
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "set -e\n  CUDA_VISIBLE_DEVICES=0 \\\n  torchrun train.py\n",
            f"set -e\n  export PYTORCH_CUDA_ALLOC_CONF={SETTING}\n  CUDA_VISIBLE_DEVICES=0 \\\n  torchrun train.py\n",
        ),
        ("torchrun train.py\n", f"export PYTORCH_CUDA_ALLOC_CONF={SETTING}\ntorchrun train.py\n"),
    ],
)
def test_a_shell_script_exports_the_variable_before_the_command(before: str, after: str):
    document = Document.of("run.sh", before)
    words, edits = write_settings(SETTING, [fact("launcher", "torchrun", document, "torchrun")], {"run.sh": document})
    assert words == f"PYTORCH_CUDA_ALLOC_CONF={SETTING}"
    assert apply_edits(document, edits) == after


@pytest.mark.parametrize(
    ("path", "text", "at", "value", "after"),
    [
        (
            "train.py", 'os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "max_split_size_mb:128"\n', '"max_split_size_mb:128"',
            "max_split_size_mb:128",
            f'os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "{SETTING},max_split_size_mb:128"\n',
        ),
        (
            "run.sh", "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False\n", "expandable_segments:False",
            "expandable_segments:False", f"export PYTORCH_CUDA_ALLOC_CONF={SETTING}\n",
        ),
    ],
)  # fmt: skip
def test_settings_that_are_there_are_kept(path: str, text: str, at: str, value: str, after: str):
    document = Document.of(path, text)
    said = fact("allocator_settings", value, document, at, "PYTORCH_CUDA_ALLOC_CONF")
    _, edits = write_settings(SETTING, [said], {path: document})
    assert apply_edits(document, edits) == after


def test_where_no_file_has_a_place_the_words_stand_alone():
    words, edits = write_settings(SETTING, [], {})
    assert (words, edits) == (f"PYTORCH_CUDA_ALLOC_CONF={SETTING}", ())
    document = Document.of("train.py", "print()\n")
    assert write_settings(SETTING, [fact("entry", "x", document, "print")], {"train.py": document})[1] == ()

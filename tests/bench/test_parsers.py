"""The bench of frameworks' parsers: who is asked what, and what counts as refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.asking.__main__ import answer
from bench.asking.commands import commands, flag, without
from bench.edited import edited
from bench.parsers import Asked, asked_of, tally
from bench.projects import Copy, by_project, listed
from tests.cli.conftest import SCRIPT


def test_the_vocabulary_of_a_file_says_who_is_asked(tmp_path: Path) -> None:
    texts = {
        "a.yml": "base_model: gpt2\nsequence_len: 512\nmicro_batch_size: 1\nsample_packing: true\n",
        "b.json": '{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 1}\n',
        "c.yaml": "title: nothing that trains\n",
        "d.py": "print()\n",
        "e.sh": "python -m verl.trainer.main_ppo data.train_batch_size=8\n",
        "f.sh": "python train.py --bf16\n",
    }
    found = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        asked = asked_of(tmp_path / name)
        found[name] = f"{asked.module} {asked.kind}" if isinstance(asked, Asked) else ""
    assert found == {
        "a.yml": "axolotl arguments",
        "b.json": "hugging_face engine",
        "c.yaml": "",
        "d.py": "hugging_face calls",
        "e.sh": "verl flags",
        "f.sh": "hugging_face flags",
    }


def test_what_was_refused_before_is_not_the_edits_doing() -> None:
    def said(error: str = "", *unknown: str, asked: int = 1) -> Mapping[str, Any]:
        return {"error": error, "unknown": list(unknown), "asked": asked}

    answers = {
        "good": {"before": said("", "old"), "after": said("", "old")},
        "before": {"before": said("no"), "after": said()},
        "after": {"before": said(), "after": said("no")},
        "new": {"before": said("", "old"), "after": said("", "old", "new")},
        "nothing": {"before": said(asked=0), "after": said(asked=0)},
    }
    row = tally([*answers, "silent"], answers)
    assert (row["edited"], row["asked"], row["accepted"], row["refused_before"]) == (6, 3, 1, 1)
    assert row["refused"] == {"after": "no", "new": "not known: new", "silent": "no answer"}


def test_a_refusal_has_its_words() -> None:
    def parse(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
        if text == "bad":
            raise ValueError("so bad")
        return 1, ["b", "a"]

    assert answer(parse, {}, "bad") == {"error": "ValueError: so bad", "unknown": [], "asked": 1}
    assert answer(parse, {}, "good") == {"error": "", "unknown": ["a", "b"], "asked": 1}


def test_commands_of_a_script() -> None:
    launch = 'CUDA=0 torchrun --nproc_per_node $N \\\n  train.py --lr "1e-4" --steps $(expr 8 / 2)\n'
    text = f"N=4\n# python a.py --x 1\n{launch}"
    assert list(commands(text)) == [["torchrun", "--nproc_per_node", "4", "train.py", "--lr", "1e-4", "--steps", "1"]]
    words = ["--deepspeed", "ds.json", "--bf16", "--fsdp_config=f.json", "--lr", "1"]
    assert list(without(words, ("deepspeed", "fsdp_config"))) == ["--bf16", "--lr", "1"]
    assert flag("--per-device-batch=4") == "per_device_batch"


def test_fixes_and_plans_give_new_texts(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SCRIPT)
    found = list(edited(file, "3GiB"))
    assert found
    assert {item.path for item in found} == {str(file)}
    assert all(item.before == SCRIPT != item.after for item in found)
    assert len({item.after for item in found}) == len(found)
    assert file.read_text() == SCRIPT


def test_copies_are_put_back(tmp_path: Path) -> None:
    project = tmp_path / "root" / "project"
    (project / ".git").mkdir(parents=True)
    (project / ".git" / "HEAD").write_text("ref")
    (project / "a.py").write_text("1")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with Copy(project, scratch) as copy:
        assert list((copy.folder / ".git").iterdir()) == []
        (copy.folder / "a.py").write_text("2")
        (copy.folder / "new.py").write_text("3")
        copy.restore()
        assert sorted(path.name for path in copy.folder.iterdir()) == [".git", "a.py"]
        assert (copy.folder / "a.py").read_text() == "1"
    assert not copy.folder.exists()


def test_lists_name_files_of_projects(tmp_path: Path) -> None:
    (tmp_path / "p" / "q").mkdir(parents=True)
    (tmp_path / "p" / "q" / "a.py").write_text("")
    names = tmp_path / "list"
    names.write_text("p/q/a.py\tmore\n\n")
    assert by_project(listed(names, tmp_path)) == {"p": ["q/a.py"]}
    names.write_text("p/b.py\n")
    with pytest.raises(FileNotFoundError, match=r"p/b\.py"):
        listed(names, tmp_path)

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import extraction

ROOT = Path(__file__).resolve().parents[2]
TRAIN = (ROOT / "examples/full-finetune-7b/train.py").read_text(encoding="utf-8")


@pytest.fixture
def checkouts(tmp_path: Path) -> Path:
    folder = tmp_path / "roots" / "someone__project"
    folder.mkdir(parents=True)
    for name in ("train.py", "ds_config.json", "requirements.txt"):
        (folder / name).write_bytes((ROOT / "examples/full-finetune-7b" / name).read_bytes())
    return tmp_path


def line_of(text: str) -> int:
    return TRAIN[: TRAIN.index(text)].count("\n") + 1


def test_example_against_facts_read_by_hand(checkouts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "model": {"value": "meta-llama/Llama-2-7b-hf", "line": line_of("MODEL ="), "origin": "explicit"},
        "micro_batch_size": {"value": 4, "line": line_of('"--batch-size"'), "origin": "explicit"},
        "max_seq_len": {"value": 2048, "line": line_of('"--max-length"'), "origin": "explicit"},
        "train_precision": {"value": "bf16-mixed", "line": None, "origin": "explicit"},
        "zero_stage": {"value": 2, "line": None, "origin": "explicit"},
        "grad_checkpointing": {"value": False, "line": None, "origin": "default"},
        "colour": {"value": "blue", "line": 1, "origin": "explicit"},
    }
    expected = {
        "someone/project:train.py": {"kind": "script", "framework": "Trainer", "facts": facts},
        "someone/project:gone.py": {"kind": "script", "framework": "Trainer", "facts": facts},
        "someone/project:run.sh": {"kind": "script", "framework": "shell", "facts": facts},
    }
    path = checkouts / "expected.json"
    path.write_text(json.dumps(expected), encoding="utf-8")
    arguments = ["--expected", str(path), "--root", str(checkouts / "roots")]

    assert extraction.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {name: report[name] for name in extraction.COLUMNS} == {
        "n": 7, "right": 6, "wrong": 0, "missing": 1, "claimed_wrong": 0, "spans_right": 3,
    }  # fmt: skip
    assert report["right_fraction"] == round(6 / 7, 4)
    assert report["absent"] == ["someone/project:gone.py", "someone/project:run.sh"]
    assert report["groups"]["base"]["n"] == 7
    assert report["not_in_vocabulary"] == ["colour"]
    assert report["facts"]["zero_stage"]["right"] == 1

    assert extraction.main([*arguments, "--details"]) == 0
    text = capsys.readouterr().out
    assert "missing colour: expected 'blue' (line 1)" in text
    assert "absent: someone/project:gone.py" in text


def test_a_crash_is_reported_and_everything_of_the_file_is_missing(
    checkouts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(arguments: list[str]) -> int:
        raise ZeroDivisionError(arguments[-1])

    monkeypatch.setattr(extraction, "vramlint", crash)
    row = {"kind": "script", "facts": {"lora_r": {"value": 8, "line": 1, "origin": "explicit"}}}
    report = extraction.measure({"someone/project:train.py": row}, checkouts / "roots", checkouts)
    assert "ZeroDivisionError" in report["crashed"]["someone/project:train.py"]
    assert report["missing"] == 1


def test_precision_without_autocast_follows_the_checkpoint() -> None:
    fp32 = {"value": "fp32", "line": None, "origin": "default"}
    auto = {"value": {"transformers<5": "float32", "transformers>=5": "auto"}, "line": None, "origin": "default"}
    written = {"value": "float32", "line": 3, "origin": "explicit"}
    assert extraction.comparable({"train_precision": fp32, "load_dtype": auto})["train_precision"]["value"] != "fp32"
    assert extraction.comparable({"train_precision": fp32, "load_dtype": written})["train_precision"] == fp32
    assert extraction.comparable({"train_precision": fp32})["train_precision"] == fp32


def test_kinds() -> None:
    shell = {"kind": "script", "framework": "shell"}
    deepspeed = {"kind": "config", "framework": "deepspeed-json"}
    axolotl = {"kind": "config", "framework": "axolotl"}

    def chosen(kind: str) -> list[str]:
        files = {"a/b:x.sh": shell, "a/b:ds.json": deepspeed, "a/b:x.yml": axolotl, "a/b:x.py": {"kind": "script"}}
        return [key for key, row in files.items() if extraction.wanted(key, row, kind)]

    assert chosen("script") == ["a/b:x.sh", "a/b:x.py"]
    assert chosen("config") == ["a/b:ds.json", "a/b:x.yml"]
    assert len(chosen("all")) == 4


def test_groups_and_frameworks() -> None:
    torchrun = {"kind": "script", "framework": "shell, torchrun"}
    swift = {"kind": "script", "framework": "shell, swift sft flags"}
    assert extraction.group("a/b:run.sh", torchrun) == "base"
    assert extraction.group("a/b:run.sh", swift) == "frameworks"
    assert extraction.group("OpenRLHF/OpenRLHF:run.sh", torchrun) == "frameworks"
    assert extraction.wanted("a/b:run.sh", torchrun, "script", "base")
    assert extraction.wanted("a/b:run.sh", torchrun, "all", "Torchrun")
    assert not extraction.wanted("a/b:run.sh", swift, "all", "base")

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import kinds

ACCELERATE = (
    "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nmixed_precision: bf16\nnum_processes: 8\n"
)
ARGUMENTS = {
    "model_name_or_path": "meta-llama/Llama-2-7b-hf",
    "output_dir": "out",
    "per_device_train_batch_size": 2,
    "per_device_train_batch_siz": 2,
    "bf16": True,
    "max_length": 512,
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    files = {
        "a/ddp.yaml": ACCELERATE,
        "b/ds.json": '{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 1}',
        "c/args.json": json.dumps(ARGUMENTS),
        "d/notes.yaml": "title: no configuration at all\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, encoding="utf-8")
    rows = [
        ("accelerate", "a/ddp.yaml"),
        ("deepspeed-json", "b/ds.json"),
        ("trl", "c/args.json"),
        ("axolotl", "d/notes.yaml"),
        ("axolotl", "e/gone.yaml"),
    ]
    index = "framework\tfile\n" + "".join(f"{framework}\t{file}\n" for framework, file in rows)
    (tmp_path / "INDEX.tsv").write_text(index, encoding="utf-8")
    return tmp_path


def test_kinds_runs_and_keys(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--index", str(corpus / "INDEX.tsv"), "--root", str(corpus)]
    assert kinds.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {name: report[name] for name in kinds.COLUMNS} == {
        "files": 4, "told": 3, "crashed": 0, "runs": 2, "complete": 2, "resolved": 1, "unknown_keys": 1,
    }  # fmt: skip
    assert report["told_wrongly"] == {"d/notes.yaml": ""}
    assert list(report["unresolved"]) == ["d/notes.yaml"]
    assert report["absent"] == ["e/gone.yaml"]
    assert "per_device_train_batch_siz" in report["keys"]["c/args.json"][0]

    assert kinds.main([*arguments, "--framework", "accelerate"]) == 0
    text = capsys.readouterr().out
    assert "right kind: 100.0% of 1 files" in text
    assert "resolved" in text


def test_crashes_are_counted(corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kinds, "explain", lambda path: (None, f"ZeroDivisionError: {path.name}"))
    assert kinds.main(["--index", str(corpus / "INDEX.tsv"), "--root", str(corpus)]) == 1
    assert "crashes: a/ddp.yaml: ZeroDivisionError: ddp.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "origin", "estimate", "expected"),
    [
        ("checked", "assumed", None, True),
        ("unresolved", "written", {}, True),
        ("unresolved", "assumed", {}, False),
        ("unresolved", "written", None, False),
    ],
)
def test_resolved_is_checked_or_a_peak_without_an_assumed_model(
    status: str, origin: str, estimate: object, expected: bool
) -> None:
    job = {"status": status, "estimate": estimate, "facts": [{"name": "model", "origin": origin}]}
    assert kinds.resolved(job) is expected


@pytest.mark.parametrize(
    ("reason", "complete"),
    [
        ("model is not known (the recipe that the file overrides says it)", False),
        ("model is not known; parallelism is not known", False),
        ("model is not known (/model is neither a model of the catalog nor a folder with a config.json)", False),
        ("model is not known (a/b is not in the model catalog, and no config.json lies beside the files)", True),
        ("micro batch size is not known (no file says the micro batch size; the least is assumed)", False),
    ],
)
def test_a_file_that_leaves_a_fact_to_another_is_not_complete(reason: str, complete: bool) -> None:
    outcome = kinds.Outcome("a.yaml", "axolotl", "axolotl", True, "unresolved", reason, False, ())
    assert outcome.complete is complete

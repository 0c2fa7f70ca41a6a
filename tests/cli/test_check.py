"""`vramlint [PATHS]`: exit codes, formats, selection, standard input."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import SCRIPT, Run, on_processors
from vramlint.cli.disk import names

MISSPELT = (
    '{\n  "zero_optimisation": {"stage": 2},\n  "train_micro_batch_size_per_gpu": 4,\n  "steps_per_print": 10\n}\n'
)
CLEAN = '{\n  "train_micro_batch_size_per_gpu": 4,\n  "steps_per_print": 10\n}\n'


@pytest.fixture
def deepspeed(tmp_path: Path) -> Path:
    path = tmp_path / "ds.json"
    path.write_text(MISSPELT, encoding="utf-8")
    return path


def test_findings_go_out_and_the_summary_goes_aside(vramlint: Run, deepspeed: Path) -> None:
    result = vramlint("ds.json")
    assert result.code == 1
    assert " --> ds.json:2:3" in result.out
    assert "did you mean `zero_optimization`?" in result.out
    assert "summary" not in result.out
    assert result.err.startswith("checked 0 jobs")
    assert result.err.rstrip().endswith("found 1 warning; 1 fixable with --fix --unsafe-fixes")


def test_quiet(vramlint: Run, deepspeed: Path) -> None:
    assert vramlint("-q", "ds.json").err == ""


def test_verbose_names_the_files(vramlint: Run, deepspeed: Path) -> None:
    assert "read ds.json\n" in vramlint("-v", ".").err


def test_nothing_found(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(CLEAN)
    result = vramlint()
    assert (result.code, result.out) == (0, "")
    assert result.err.rstrip().endswith("found nothing")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 1),
        (["--fail-on", "info"], 1),
        (["--fail-on", "warning"], 1),
        (["--fail-on", "error"], 0),
        (["--exit-zero"], 0),
        (["--ignore", "VRAM8"], 0),
        (["--ignore", "unknown-deepspeed-key"], 0),
        (["--select", "VRAM1,VRAM2"], 0),
        (["--select", "VRAM1", "--select", "VRAM802"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_codes(vramlint: Run, deepspeed: Path, arguments: list[str], code: int) -> None:
    assert vramlint(*arguments, "ds.json").code == code


def test_settings_choose_rules_and_the_command_line_wins(vramlint: Run, deepspeed: Path, tmp_path: Path) -> None:
    settings = tmp_path / "vramlint.toml"
    settings.write_text('select = ["VRAM1"]\n')
    assert vramlint("ds.json").code == 0
    assert vramlint("ds.json", "--isolated").code == 1
    assert vramlint("ds.json", "--select", "VRAM802").code == 1
    settings.write_text('fail-on = "error"\n')
    assert vramlint("ds.json").code == 0
    assert vramlint("ds.json", "--fail-on", "warning").code == 1
    settings.write_text('[severity]\nunknown-deepspeed-key = "info"\n')
    assert vramlint("ds.json", "--format", "concise").out.startswith("ds.json:2:3: info VRAM802 ")
    (tmp_path / "other.toml").write_text('ignore = ["VRAM802"]\n')
    assert vramlint("ds.json", "--config", "other.toml").out == ""


def test_the_nearest_settings_file_holds(vramlint: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ds.json").write_text(MISSPELT)
    (tmp_path / "a" / "vramlint.toml").write_text('ignore = ["VRAM802"]\n')
    lines = vramlint("--format", "concise").out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(Path("b") / "ds.json")]


def test_overrides_hold_for_their_files(vramlint: Run, deepspeed: Path, tmp_path: Path) -> None:
    (tmp_path / "vramlint.toml").write_text('[[overrides]]\nfiles = ["ds*.json"]\nignore = ["VRAM802"]\n')
    assert vramlint("ds.json").code == 0


@pytest.mark.parametrize("form", ["full", "concise", "json", "sarif", "github"])
def test_formats(vramlint: Run, deepspeed: Path, form: str) -> None:
    result = vramlint("ds.json", "--format", form)
    assert result.code == 1
    assert "VRAM802" in result.out
    if form in {"json", "sarif"}:
        json.loads(result.out)


def test_sarif_names_every_rule_that_ran(vramlint: Run, deepspeed: Path) -> None:
    run = json.loads(vramlint("ds.json", "--format", "sarif").out)["runs"][0]
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert {"VRAM101", "VRAM802"} <= set(rules)
    assert rules["VRAM101"]["help"]["markdown"].startswith("# VRAM101")


def test_output_file(vramlint: Run, deepspeed: Path, tmp_path: Path) -> None:
    result = vramlint("ds.json", "--format", "json", "--output-file", "out.json")
    assert (result.code, result.out) == (1, "")
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["version"] == 1


def standard_input(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


@pytest.mark.parametrize(("name", "path"), [((), "-"), (("--stdin-filename", "sub/ds.json"), "sub/ds.json")])
def test_standard_input(vramlint: Run, monkeypatch: pytest.MonkeyPatch, name: tuple[str, ...], path: str) -> None:
    standard_input(monkeypatch, MISSPELT)
    assert vramlint("-", *name, "--format", "concise").out.startswith(f"{path}:2:3: warning VRAM802 ")


def test_a_suppression_in_the_file_counts(vramlint: Run, tmp_path: Path) -> None:
    text = MISSPELT.replace("2},", "2}, // vramlint: ignore[unknown-deepspeed-key] on purpose")
    (tmp_path / "ds.json").write_text(text)
    result = vramlint("ds.json", "--ignore", "json-extension")
    assert result.out == ""
    assert result.err.rstrip().endswith("; 1 suppressed")


def test_a_run_that_does_not_fit(vramlint: Run, script: Path) -> None:
    result = vramlint("train.py", "--gpu", "2GiB")
    assert result.code == 1
    assert result.out.startswith("error[VRAM101] [*] exceeds-gpu-memory: ")
    assert "= memory: " in result.out
    assert "optimizer states" in result.out
    assert "= help: " in result.out
    assert result.err.startswith("checked 1 job, 0 unresolved")


def test_the_gpu_may_stand_in_a_comment_or_in_the_settings(vramlint: Run, script: Path, tmp_path: Path) -> None:
    script.write_text(f"# vramlint: gpu=2GiB\n{SCRIPT}")
    assert "VRAM101" in vramlint("train.py", "--format", "concise").out
    script.write_text(SCRIPT)
    assert "VRAM101" not in vramlint("train.py", "--format", "concise").out
    (tmp_path / "vramlint.toml").write_text('gpu = "2GiB"\n')
    assert "VRAM101" in vramlint("train.py", "--format", "concise").out
    assert "VRAM101" not in vramlint("train.py", "--format", "concise", "--gpu", "b200").out


def test_an_unknown_gpu_in_a_comment_is_a_finding(vramlint: Run, script: Path) -> None:
    script.write_text(f"# vramlint: gpu=rtx3091\n{SCRIPT}")
    first = vramlint("train.py", "--format", "concise").out.splitlines()[0]
    assert first.startswith("train.py:1:17: ")
    assert "rtx3091" in first


def test_without_a_gpu_the_need_is_printed(vramlint: Run, script: Path) -> None:
    result = vramlint("train.py")
    assert "memory: train.py: needs " in result.out
    assert "= help: the smallest common GPUs that would do: " in result.out


def test_an_unresolved_job_is_named(vramlint: Run, script: Path) -> None:
    script.write_text(SCRIPT.replace('"openai-community/gpt2"', "__import__('sys').argv[1]"))
    result = vramlint("train.py", "--gpu", "2GiB")
    assert "1 unresolved" in result.err
    assert "unresolved: train.py: model is not known" in result.err


def test_the_hook_leaves_unrelated_files_alone(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print('no training here')\n")
    assert "1 file skipped" in vramlint("--force-exclude", "a.py").err


@pytest.mark.parametrize("how", ["option", "setting", "neither"])
def test_strict_makes_unresolved_jobs_fail(vramlint: Run, tmp_path: Path, how: str) -> None:
    (tmp_path / "train.py").write_text(
        "import sys\nfrom transformers import AutoModelForCausalLM, Trainer, TrainingArguments\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        'Trainer(model=model, args=TrainingArguments("out"), train_dataset=data).train()\n'
    )
    if how == "setting":
        (tmp_path / "vramlint.toml").write_text("strict = true\n")
    result = vramlint(*(["--strict"] if how == "option" else []), "train.py")
    assert "1 unresolved" in result.err
    assert result.code == (0 if how == "neither" else 1)


def test_what_was_seen_of_the_disk_does_not_outlive_a_call(
    vramlint: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths start in the folder of the call, and files come and go between calls."""
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ds.json").write_text(CLEAN, encoding="utf-8")
    (tmp_path / "second" / "train.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "second" / "run.sh").write_text("deepspeed --num_gpus 4 train.py\n", encoding="utf-8")
    checked = {}
    for folder in ("first", "second"):
        monkeypatch.chdir(tmp_path / folder)
        vramlint("ds.json")
        checked[folder] = names(".")
    assert checked == {"first": ["ds.json"], "second": ["ds.json", "run.sh", "train.py"]}
    (tmp_path / "second" / "run.sh").unlink()
    vramlint("ds.json")
    assert names(".") == ["ds.json", "train.py"]


def test_many_files_are_judged_in_several_processes_with_the_same_result(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        batch = f"per_device_train_batch_size={number % 3 + 1}"
        (folder / "train.py").write_text(SCRIPT.replace("per_device_train_batch_size=4", batch), encoding="utf-8")
        (folder / "ds.json").write_text(MISSPELT if number % 2 else CLEAN, encoding="utf-8")
    one, three = (on_processors(count, tmp_path, ".", "--gpu", "2GiB", "--format", "json") for count in (1, 3))
    assert one.code == 1
    assert "checked 20 jobs" in one.err
    assert one == three
    assert len(json.loads(one.out)["findings"]) == 30
    assert on_processors(3, tmp_path, ".", "--fix", "--unsafe-fixes").code == 0
    fixed = MISSPELT.replace("optimisation", "optimization")
    assert {path.read_text("utf-8") for path in tmp_path.glob("*/ds.json")} == {CLEAN, fixed}

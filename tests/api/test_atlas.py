from __future__ import annotations

from vramlint.api.atlas import Atlas
from vramlint.discovery import SourceFile
from vramlint.discovery.forms import form_of

TRAIN = b"from transformers import Trainer\nTrainer(model=m, args=TrainingArguments(deepspeed='conf/ds_zero3.json'))\n"
FILES = {
    "train.py": TRAIN,
    "pkg/finetune.py": TRAIN.replace(b"ds_zero3", b"other") + b"from pkg.arguments import ModelArguments\n",
    "pkg/arguments.py": b"class ModelArguments: ...\n",
    "conf/ds_zero3.json": b'{"zero_optimization": {"stage": 3}}',
    "run.sh": b"torchrun --nproc_per_node 4 train.py --bf16 True\n",
    "run_module.sh": b"deepspeed --module pkg.finetune --bf16 True\n",
    "eval.sh": b"python evaluate.py --model x\n",
    "Makefile": b"train:\n\tpython train.py\n",
    "retrain.sh": b"python retrain.py.bak/x.py\n",
    "tests/test_finetune.py": TRAIN + b"from pkg.arguments import ModelArguments\n",
}


def found(*names: str) -> list[str]:
    given = [SourceFile(name, form_of(name), FILES[name], explicit=True) for name in names]
    atlas = Atlas(lambda _: tuple(FILES), FILES.get)
    return [file.path for file in atlas.referrers(given)]


def test_a_script_finds_its_launchers() -> None:
    assert set(found("train.py")) == {"Makefile", "run.sh", "retrain.sh"}  # by bytes only: what it starts is read later


def test_a_module_is_found_where_it_is_started_as_one() -> None:
    assert found("pkg/finetune.py") == ["run_module.sh"]


def test_a_deepspeed_json_finds_the_script_and_then_the_launcher() -> None:
    assert {"train.py", "run.sh", "Makefile"} <= set(found("conf/ds_zero3.json"))


def test_an_imported_module_finds_the_scripts_that_import_it() -> None:
    assert set(found("pkg/arguments.py")) == {"pkg/finetune.py", "run_module.sh"}


def test_a_test_is_no_run_of_what_it_imports() -> None:
    assert "tests/test_finetune.py" not in found("pkg/arguments.py")
    assert "tests/test_finetune.py" not in found("conf/ds_zero3.json")


def test_given_files_are_not_found_again() -> None:
    assert found("train.py", "run.sh", "Makefile", "retrain.sh") == []

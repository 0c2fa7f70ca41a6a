from __future__ import annotations

import os
from pathlib import Path

import pytest

from vramlint.discovery import Discovered, decode, discover
from vramlint.discovery.prefilter import may_start, may_train
from vramlint.discovery.walk import MAX_BYTES
from vramlint.settings import Settings
from vramlint.text import Document
from vramlint.values import Problem

SCRIPT = (
    "from transformers import Trainer, TrainingArguments\nargs = TrainingArguments('out')\nTrainer(args=args).train()\n"
)
DEEPSPEED = '{"zero_optimization": {"stage": 2}, "fp16": {"enabled": true}}'


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str = SCRIPT) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def names(result: Discovered) -> list[str]:
    return [file.path.replace(os.sep, "/") for file in result.files]


def test_a_folder_gives_what_may_train_sorted(tree: Path) -> None:
    for path in ("b/train.py", "a.py", "b/test_train.py", ".venv2/lib/x.py", "node_modules/x.py", "checkpoint-3/x.py"):
        write(path)
    write(".venv2/pyvenv.cfg", "home = /usr\n")
    write("b/ds.json", DEEPSPEED)
    write("b/tokenizer.json", '{"version": "1.0", "model": {}}')
    write("model.py", "from transformers import AutoModel\n")
    write("notes.txt", SCRIPT)
    result = discover(["."], Settings())
    assert names(result) == ["a.py", "b/ds.json", "b/train.py"]
    assert [file.form for file in result.files] == ["python", "json", "python"]
    assert (result.skipped.unrelated, result.skipped.total, result.problems) == (3, 3, ())


def test_ignore_files_nested_and_negated(tree: Path) -> None:
    (tree / ".git" / "info").mkdir(parents=True)
    write(".git/info/exclude", "private.py\n")
    write(".gitignore", "*.json\n/out/\ngenerated_*.py\n")
    write("src/.gitignore", "!generated_keep.py\n")
    write("src/deep/.ignore", "train.py\n")
    for path in (
        "private.py",
        "out/a.py",
        "src/out/a.py",
        "generated_a.py",
        "src/generated_keep.py",
        "src/deep/train.py",
    ):
        write(path)
    write("ds.json", DEEPSPEED)
    assert names(discover(["."], Settings())) == ["src/generated_keep.py", "src/out/a.py"]
    assert names(discover(["src"], Settings())) == ["src/generated_keep.py", "src/out/a.py"]
    assert names(discover(["out"], Settings())) == ["out/a.py"], "a folder named by the user is walked though ignored"


def test_named_files_are_taken_unless_exclusion_is_forced(tree: Path) -> None:
    write(".gitignore", "a.py\n")
    write("a.py", "x = 1\n")
    write("old/b.py")
    settings = Settings(root=str(tree), exclude=("old/",))
    assert names(discover(["a.py", "old/b.py"], settings)) == ["a.py", "old/b.py"]
    forced = discover(["a.py", "old/b.py"], settings, force_exclude=True)
    assert (names(forced), forced.skipped.ignored) == ([], 2)
    assert names(discover(["."], settings)) == []


def test_every_file_once_and_link_loops_end(tree: Path) -> None:
    write("src/a.py")
    (tree / "src" / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "src" / "dangling.py").symlink_to(tree / "nowhere.py")
    result = discover(["src/a.py", ".", "src", "./src/../src/a.py"], Settings())
    assert names(result) == ["src/a.py"]
    assert result.files[0].explicit
    assert result.problems == ()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty-file"),
        (b" \n", "empty-file"),
        (b"x = 1\n\0", "unreadable-file"),
        (b"#" * (MAX_BYTES + 1), "too-large"),
    ],
)
def test_named_files_that_cannot_be_linted(tree: Path, content: bytes, kind: str) -> None:
    (tree / "a.py").write_bytes(content)
    result = discover(["a.py"], Settings())
    assert ([problem.kind for problem in result.problems], result.files) == ([kind], ())
    assert discover(["."], Settings()).problems == ()


def test_paths_that_are_no_files(tree: Path) -> None:
    write("notes.txt", "hello\n")
    os.mkfifo("pipe.py")
    result = discover(["missing.py", "notes.txt", "pipe.py", "", "a\0b.py"], Settings())
    said = {problem.place.path: (problem.kind, problem.message) for problem in result.problems}
    assert said["missing.py"] == ("unreadable-file", "no such file or directory")
    assert said["notes.txt"][0] == "unknown-form"
    assert said["pipe.py"] == ("unreadable-file", "not a regular file")
    assert said[""][0] == said["a\0b.py"][0] == "unreadable-file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_without_permission_are_problems(tree: Path) -> None:
    write("a.py").chmod(0)
    assert [problem.kind for problem in discover(["."], Settings()).problems] == ["unreadable-file"]


def test_too_large_and_binary_files_in_a_folder_are_counted(tree: Path) -> None:
    (tree / "a.py").write_bytes(SCRIPT.encode() + b"#" * MAX_BYTES)
    (tree / "b.py").write_bytes(SCRIPT.encode() + b"\0")
    result = discover(["."], Settings())
    assert (result.files, result.skipped.too_large, result.skipped.binary) == ((), 1, 1)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("python", SCRIPT),
        ("python", "trainer = trl.SFTTrainer(\n  model=m)\n"),
        ("python", "optimizer = torch.optim.AdamW(p)\nfor x in data:\n    loss.backward()\n"),
        ("python", "engine, *_ = deepspeed.initialize(model=m)\n"),
        (
            "python",
            "class TrainingArguments(tf.TrainingArguments): 0\nTrainer(a)\nif __name__ == '__main__':\n  f()\n",
        ),
        ("json", '// c\n{"zero_optimisation": {}, "train_micro_batch_size": 4, "fp16": {}}'),
        ("json", '{"model_type" : "llama"}'),
        ("json", '{"per_device_train_batch_size": 4}'),
        ("yaml", "output_dir: x\nlearning_rate: 1e-4\n"),
        ("shell", "python3 -u \\\n  train.py\n"),
        ("shell", "docker run --entrypoint python3 $IMAGE \\\r\n  -m pkg.train\r\n"),
    ],
)
def test_what_may_train_is_kept(form: str, text: str) -> None:
    assert may_train(form, text.encode())


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("python", "from transformers import Trainer, TrainingArguments\nmodel.generate()\n"),
        ("python", "def f():\n    '''\n    >>> Trainer(model)\n    '''\n# Trainer(x)\n"),
        ("python", "class Trainer:\n    def again(self):\n        return Trainer(self.args)\n"),
        ("python", "trainer = BpeTrainer(vocab_size=3)\n"),
        ("python", "def step(loss):\n    loss.backward()\n"),
        ("json", '[{"fp16": 1, "bf16": 2}]'),
        ("json", '{"log_history": [], "train_batch_size": 8, "max_steps": 3, "fp16": 1}'),
        ("json", '{"name": "x", "lockfileVersion": 3}'),
        ("yaml", "on: push\njobs: {}\n"),
        ("shell", "which python3 # \\\\\nls *.py\n"),
    ],
)
def test_what_does_not_train_is_dropped(form: str, text: str) -> None:
    assert not may_train(form, text.encode())


def test_decoding_keeps_line_ends_and_the_byte_order_mark() -> None:
    document = decode("a.py", b"\xef\xbb\xbfx = 1\r\n", "python")
    assert isinstance(document, Document)
    assert document.text == "\ufeffx = 1\r\n"


def test_declared_encodings_count_for_python_only() -> None:
    data = b"# -*- coding: latin-1 -*-\nx = '\xe9'\n"
    document = decode("a.py", data, "python")
    assert isinstance(document, Document)
    assert "é" in document.text
    assert isinstance(decode("a.yaml", data, "yaml"), Problem)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("ä = 1\nb = 'é".encode() + b"\xff'\n", "byte 0xff is not valid UTF-8"),
        ("x = 1\n".encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
        (b"# coding: no-such\n", "unknown encoding"),
        (b"# coding: rot13\nk = 1\n", "`rot13` is not a text encoding"),
    ],
)
def test_undecodable_files(data: bytes, said: str) -> None:
    problem = decode("a.py", data, "python")
    assert isinstance(problem, Problem)
    assert problem.kind == "not-utf8"
    assert said in problem.message
    if "0xff" in said:
        assert (problem.place.span.line, problem.place.span.column) == (2, 7)


@pytest.mark.parametrize(
    ("form", "data", "starts"),
    [
        ("yaml", "jobs:\n  a:\n    runs-on: x\n    steps:\n    - run: torchrun train.py\n", True),
        ("yaml", "jobs:\n  a:\n    runs-on: x\n    steps:\n    - run: python -m pip install .\n", False),
        ("yaml", "jobs:\n  a:\n    runs-on: x\n    steps:\n    - run: python -m pytest tests\n", False),
        ("yaml", "apiVersion: v1\nspec:\n  command:\n  - python\n  - train.py\n", True),
        ("yaml", 'apiVersion: v1\nspec:\n  command: ["python3", "-m", "trainer.task"]\n', True),
        ("yaml", "resources: {accelerators: A100:8}\nrun: |\n  bash scripts/train.sh\n", True),
        ("yaml", "method: grid\nprogram: train.py\nparameters: {}\n", True),
        ("yaml", "learning_rate: 1.0e-4\nmodel: torchrun\n", False),
        ("json", '{"workerPoolSpecs": [{"containerSpec": {"command": ["python", "train.py"]}}]}', True),
        ("python", "from sagemaker.pytorch import PyTorch\nPyTorch(entry_point='train.py')\n", True),
        ("python", "import subprocess\nsubprocess.run(['torchrun', 'train.py'])\n", True),
        ("python", "import subprocess\nsubprocess.run(['ls'])\n", False),
    ],
)
def test_files_that_may_start_programs(form: str, data: str, starts: bool) -> None:
    assert may_start(form, data.encode()) is starts


def test_a_container_may_start_a_list_of_words() -> None:
    assert may_train("docker", b'FROM x\nCMD ["python", "train.py"]\n')
    assert not may_train("docker", b'FROM x\nCMD ["nginx"]\n')

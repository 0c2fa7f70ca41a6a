"""The number of processes of a run as edits of the command that starts it."""

from __future__ import annotations

import pytest

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.launch.processes import write_processes
from vramlint.text import Document, Place, apply_edits

WANTED = {"world_size": 8, "gradient_accumulation_steps": 2}


def fact(document: Document, name: str, value: str | int, at: str, key: str = "") -> Fact:
    start = document.text.index(at)
    place = Place(document.path, document.span(start, start + len(at)))
    return Fact(name, (Candidate(value, place),), Origin.WRITTEN, key, "cli")


def after(text: str, *facts: tuple[str, str | int, str, str], path: str = "run.sh") -> tuple[str, str] | None:
    """What is said, and the file with the edits."""
    document = Document.of(path, text)
    found = write_processes(WANTED, [fact(document, *each) for each in facts], {path: document})
    return None if found is None else (found[0], apply_edits(document, found[1]))


@pytest.mark.parametrize(
    ("before", "key", "at", "said", "expected"),
    [
        (
            "torchrun --nproc_per_node 2 train.py  # two\n", "--nproc_per_node", "2",
            "--nproc_per_node 8", "torchrun --nproc_per_node 8 train.py  # two\n",
        ),
        (
            "torchrun --nproc-per-node=2 \\\n  train.py --lr 2\n", "--nproc-per-node", "--nproc-per-node=2",
            "--nproc-per-node=8", "torchrun --nproc-per-node=8 \\\n  train.py --lr 2\n",
        ),
        (
            "accelerate launch --num_processes 2 train.py\n", "--num_processes", "2",
            "--num_processes 8", "accelerate launch --num_processes 8 train.py\n",
        ),
        ("deepspeed --num_gpus=2 train.py\n", "--num_gpus", "2", "--num_gpus 8", "deepspeed --num_gpus=8 train.py\n"),
    ],
)  # fmt: skip
def test_the_option_gets_another_number(before: str, key: str, at: str, said: str, expected: str) -> None:
    assert after(before, ("world_size", 2, at, key)) == (said, expected)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("cd x\npython train.py --lr 1\n", "cd x\ntorchrun --nproc_per_node 8 train.py --lr 1\n"),
        ("cd x\npython3 -m pkg.train\n", "cd x\ntorchrun --nproc_per_node 8 -m pkg.train\n"),
    ],
)
def test_python_becomes_torchrun(before: str, expected: str) -> None:
    start = "python3" if "python3" in before else "python"
    assert after(before, ("launcher", "python", start, "")) == ("torchrun --nproc_per_node 8", expected)


@pytest.mark.parametrize(
    ("before", "facts"),
    [
        ("python -u train.py\n", [("launcher", "python", "python", "")]),
        ("$PYTHON train.py\n", [("launcher", "python", "$PYTHON", "")]),
        ("CUDA_VISIBLE_DEVICES=0 python train.py\n", [("launcher", "python", "python", "")]),
        (
            "CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node 2 t.py\n",
            [("world_size", 2, "2", "--nproc_per_node"), ("launcher", "torchrun", "torchrun", "")],
        ),
        ("srun -n 2 python t.py\n", [("world_size", 2, "2", "--ntasks"), ("launcher", "srun", "srun", "")]),
        ("N=2\ntorchrun --nproc_per_node $((N)) t.py\n", [("world_size", 2, "$((N))", "--nproc_per_node")]),
        (
            "torchrun --nnodes 2 --nproc_per_node 4 t.py\n",
            [("world_size", 8, "4", "--nproc_per_node"), ("nodes", 2, "2", "--nnodes")],
        ),
        ("torchrun t.py\n", [("launcher", "torchrun", "torchrun", "")]),
    ],
)
def test_what_cannot_be_said_there_is_left(before: str, facts: list[tuple[str, str | int, str, str]]) -> None:
    assert after(before, *facts) is None


def test_a_usage_in_a_docstring_is_no_launcher_to_change() -> None:
    assert after('"""\npython train.py\n"""\n', ("launcher", "python", "python", ""), path="train.py") is None


def test_other_changes_are_not_for_the_command() -> None:
    document = Document.of("run.sh", "python train.py\n")
    facts = [fact(document, "launcher", "python", "python")]
    assert write_processes({"micro_batch_size": 1}, facts, {"run.sh": document}) is None

"""Functions that a library starts, and loops whose body is read once."""

from __future__ import annotations

import pytest

from vramlint.readers.python import read_program
from vramlint.text import Document
from vramlint.values import Call, Scalar, Unknown, Value

STARTED = """
import torch
import torch.multiprocessing as mp
from accelerate import notebook_launcher
from lightning import Fabric

def work(*args):
    torch.seen(*args)

def worker(rank, size, name="a"):
    torch.seen(rank, size, name)

def main(fabric, size):
    torch.seen(fabric, size)

fabric = Fabric(devices=2)
"""


def seen(statement: str) -> list[tuple[Value, ...]]:
    program, _ = read_program(Document.of("train.py", f"{STARTED}\n{statement}\n"), {})
    assert program is not None
    return [call.args for call in program.calls if call.callee == "torch.seen"]


def plain(value: Value) -> object:
    return value.value if isinstance(value, Scalar) else type(value)


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        ("mp.spawn(worker, args=(8,), nprocs=8)", [Unknown, 8, "a"]),
        ("mp.spawn(worker, (8, 'b'), 8)", [Unknown, 8, "b"]),
        ("mp.Process(target=work, args=(1, 2)).start()", [1, 2]),
        ("notebook_launcher(work, (1, 2), num_processes=2)", [1, 2]),
        ("notebook_launcher(work, args=(1,), num_processes=2)", [1]),
        ("fabric.launch(main, 4)", [Call, 4]),
    ],
)
def test_functions_that_a_library_starts(statement: str, arguments: list[object]) -> None:
    found = seen(statement)
    assert [plain(value) for value in found[0]] == arguments


def test_a_launch_of_nothing_starts_nothing() -> None:
    assert len(seen("fabric.launch()")) == len(seen(""))


def test_a_counter_in_a_loop_of_unknown_length_has_no_value() -> None:
    text = """
import torch
step = 0
for batch in torch.loader():
    step += 1
    if step % 4 == 0:
        torch.step(step)
"""
    program, _ = read_program(Document.of("train.py", text), {})
    assert program is not None
    (call,) = [call for call in program.calls if call.callee == "torch.step"]
    assert isinstance(call.args[0], Unknown)
    (modulo,) = [call for call in program.calls if call.callee == "operator.mod"]
    assert plain(modulo.args[1]) == 4

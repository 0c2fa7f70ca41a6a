"""marimo's cells are read in the order in which they run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vramlint.readers.python import read_program
from vramlint.text import Document
from vramlint.values import Program, Scalar

HEAD = """\
import marimo

__generated_with = "0.17.0"
app = marimo.App(width="medium")

with app.setup:
    import torch
    from transformers import TrainingArguments

"""


def read(*cells: str) -> Program:
    program, problems = read_program(Document.of("nb.py", HEAD + "\n\n".join(cells)), {})
    assert program is not None, problems
    return program


def values(*cells: str) -> dict[str, object]:
    return {entry.key: entry.value.value for entry in read(*cells).constants if isinstance(entry.value, Scalar)}


TRAINS = """\
@app.cell
def _(batch):
    args = TrainingArguments(output_dir="out", per_device_train_batch_size=batch)
    return (args,)
"""
SETS = """\
@app.cell(hide_code=True)
def settings(base):
    batch = base * 2
    return batch,
"""
BASE = """\
@app.cell
def _():
    base = 4
    return (base,)
"""
MAIN = 'if __name__ == "__main__":\n    app.run()\n'


def test_cells_run_in_the_order_of_their_names() -> None:
    program = read(TRAINS, SETS, BASE, MAIN)
    (call,) = (call for call in program.calls if call.callee == "transformers.TrainingArguments")
    batch = call.argument("per_device_train_batch_size")
    assert isinstance(batch, Scalar)
    assert batch.value == 8
    assert call.place.span.line == HEAD.count("\n") + 3
    assert call.conditions == ()


def test_calls_of_cells_are_made_once() -> None:
    cell = "@app.cell\nasync def _():\n    trainer.train()\n    return\n"
    assert [call.callee for call in read(cell).calls].count(".train") <= 1


def test_names_need_not_be_returned() -> None:
    assert values("@app.cell\ndef _(a):\n    b = a + 1\n", "@app.cell\ndef _():\n    a = 1\n")["b"] == 2


def test_disabled_cells_and_those_that_need_them_do_not_run() -> None:
    cell = "@app.cell(disabled=True)\ndef _():\n    base = 4\n    return (base,)\n"
    assert set(values(SETS, cell, "@app.cell\ndef _():\n    c = 3\n")) & {"base", "batch", "c"} == {"c"}


def test_cells_that_need_each_other_are_read_as_they_stand() -> None:
    one = "@app.cell\ndef _(b):\n    a = 1\n    return (a,)\n"
    other = "@app.cell\ndef _(a):\n    b = a + 1\n    return (b,)\n"
    assert values(one, other)["b"] == 2


def test_other_scripts_run_from_top_to_bottom() -> None:
    program, _ = read_program(Document.of("a.py", "@app.cell\ndef f(a):\n    b = 1\nc = 2\n"), {})
    assert program is not None
    assert [entry.key for entry in program.constants] == ["c"]


cell = st.builds(
    lambda needs, body: f"@app.cell\ndef _({', '.join(sorted(set(needs)))}):\n    {body}\n",
    st.lists(st.sampled_from("abc")),
    st.sampled_from(["a = 1", "b = a", "c = b; return c", "return (a, b)", "pass", "del a", "import b as c"]),
)


@given(st.lists(cell, max_size=6))
def test_never_raises(cells: list[str]) -> None:
    read(*cells)

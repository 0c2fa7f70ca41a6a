"""Notebooks on the command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Run
from tests.readers.notebook.making import code, markdown, written
from vramlint.discovery import decode
from vramlint.readers.notebook import rewritten
from vramlint.text import Document, Edit, Place, Span

CELLS = (
    markdown("# Fine-tuning"),
    code("%%capture", "!pip install transformers==4.46.3"),
    code(
        "from transformers import AutoModelForCausalLM, Trainer, TrainingArguments",
        'model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", torch_dtype="float32")',
        "# vramlint: sequence-length=512",
    ),
    code(
        "args = TrainingArguments(",
        '    output_dir="out",',
        "    per_device_train_batch_size=4,",
        '    optim="adamw_torch",',
        "    max_steps=10,",
        ")",
    ),
    code("!echo it's running", "Trainer(model=model, args=args, train_dataset=None).train()"),
)
SMALL = ("--gpu", "2GiB", "--isolated")


def put(folder: Path, *cells: dict[str, object]) -> str:
    text = written(*cells)
    (folder / "nb.ipynb").write_text(text, encoding="utf-8")
    return text


def test_places_are_given_by_cell(vramlint: Run, tmp_path: Path) -> None:
    put(tmp_path, *CELLS)
    result = vramlint(*SMALL, "--format", "concise", ".")
    assert result.code == 1
    assert result.out.startswith("nb.ipynb:cell 4:3:33: error VRAM101 ")


def test_comments_and_installed_versions_count(vramlint: Run, tmp_path: Path) -> None:
    put(tmp_path, *CELLS)
    result = vramlint("explain", "--isolated", "nb.ipynb")
    assert "512" in result.out
    assert "transformers  4.46.3" in result.out
    assert "nb.ipynb:cell 2:2" in result.out


@pytest.mark.parametrize("comment", ["# vramlint: gpu=2GiB", "%%bash\n# vramlint: gpu=2GiB\nls"])
def test_machine_may_be_declared_in_any_cell(vramlint: Run, tmp_path: Path, comment: str) -> None:
    put(tmp_path, code(comment), *CELLS)
    assert "VRAM101" in vramlint("--isolated", "nb.ipynb").out


def test_suppression_in_a_cell(vramlint: Run, tmp_path: Path) -> None:
    lines = "".join(CELLS[3]["source"]).replace("=4,", "=4,  # vramlint: ignore[VRAM101] it runs")
    put(tmp_path, *CELLS[:3], code(*lines.split("\n")), CELLS[4])
    result = vramlint(*SMALL, "nb.ipynb")
    assert result.out == ""
    assert "1 suppressed" in result.err


def test_edits_are_offered_and_fit_into_the_file(vramlint: Run, tmp_path: Path) -> None:
    text = put(tmp_path, *CELLS)
    before = json.loads(vramlint(*SMALL, "--format", "json", "nb.ipynb").out)
    finding = before["findings"][0]
    assert finding["cell"] == 4
    document = decode("nb.ipynb", text.encode(), "notebook")
    assert isinstance(document, Document)
    above = {cell.number: cell.first_line - 1 for cell in document.cells}
    found = [edit for step in finding["fix"]["steps"] for edit in step["edits"]]
    assert found
    edits = []
    for edit in found:
        (start, end), up = (edit["location"], edit["end_location"]), above[edit["cell"]]
        span = Span(start["row"] + up, start["column"], end["row"] + up, end["column"])
        edits.append(Edit(Place("nb.ipynb", span), edit["content"]))
    changed = json.loads(rewritten(text, edits))
    same = [one == other for one, other in zip(changed["cells"], json.loads(text)["cells"], strict=True)]
    assert same.count(False) == 1
    put(tmp_path, *changed["cells"])
    after = json.loads(vramlint(*SMALL, "--format", "json", "nb.ipynb").out)
    assert after["jobs"][0]["high_bytes"] < before["jobs"][0]["high_bytes"] / 1.5


def test_broken_cell_is_reported_and_the_others_are_checked(vramlint: Run, tmp_path: Path) -> None:
    put(tmp_path, *CELLS, code("x = 1", "print('unfinished"))
    result = vramlint(*SMALL, "--format", "concise", "nb.ipynb")
    assert "nb.ipynb:cell 6:2:7: error VRAM808" in result.out
    assert "VRAM101" in result.out


def test_what_is_no_notebook(vramlint: Run, tmp_path: Path) -> None:
    (tmp_path / "nb.ipynb").write_text('{"cells": [\n  {"source" 3}]}')
    assert (
        "nb.ipynb:2:13: error VRAM808 no notebook: expecting a colon" in vramlint("--format", "concise", "nb.ipynb").out
    )


def test_notebook_of_another_language_has_no_run(vramlint: Run, tmp_path: Path) -> None:
    text = written(*CELLS, kernelspec={"language": "R", "name": "ir"})
    (tmp_path / "nb.ipynb").write_text(text)
    assert vramlint(*SMALL, "nb.ipynb").out == ""


def test_standard_input(vramlint: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(written(*CELLS).encode())))
    result = vramlint(*SMALL, "--format", "concise", "-", "--stdin-filename", "sub/nb.ipynb")
    assert result.out.startswith("sub/nb.ipynb:cell 4:3:33: error VRAM101 ")


def test_outputs_may_be_larger_than_configurations(vramlint: Run, tmp_path: Path) -> None:
    image = {"output_type": "display_data", "data": {"image/png": "A" * 6_000_000}, "metadata": {}}
    put(tmp_path, code("1", outputs=[image]), *CELLS)
    assert "VRAM101" in vramlint(*SMALL, ".").out

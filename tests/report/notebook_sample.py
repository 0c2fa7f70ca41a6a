"""A hand-made report on a notebook: labels in two cells and in a file beside it."""

from __future__ import annotations

from msgspec.structs import replace

from tests.report import samples
from vramlint.facts import Candidate, Fact, Origin
from vramlint.findings import Fix, JobReport, Label, Report, Step
from vramlint.text import Cell, Document, Edit, Place

CELLS = """\
%%capture
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", dtype=torch.float32)
args = TrainingArguments(
    output_dir="out",
    optim="adamw_torch",
)
"""

notebook = Document.of("nb.ipynb", CELLS, (Cell(2, 1, (10, 11, 12, 13)), Cell(4, 5, (27, 27, 27, 27))))
documents = {**samples.documents, "nb.ipynb": notebook}


def place(text: str) -> Place:
    """The place of a text in the notebook."""
    start = CELLS.index(text)
    return Place("nb.ipynb", notebook.span(start, start + len(text)))


fix = Fix(
    steps=(
        Step(
            'optim="paged_adamw_8bit"',
            1 << 30,
            "8-bit states",
            safe=False,
            edits=(Edit(place('"adamw_torch"'), '"paged_adamw_8bit"'),),
        ),
    ),
    peak=samples.fix.peak,
    fits=True,
)

finding = replace(
    samples.exceeds,
    labels=(
        Label(place('"meta-llama/Llama-2-7b-hf"'), "25.00 GiB of weights"),
        Label(place("torch.float32"), "in 4 bytes each"),
        Label(place("args"), "of these"),
        Label(place('"adamw_torch"'), "41.00 GiB of optimizer states", primary=True),
        Label(samples.place("ds.json", '"stage": 0'), "nothing is sharded"),
    ),
    fix=fix,
    estimate=None,
)

job = JobReport(
    name="nb.ipynb",
    path="nb.ipynb",
    status="checked",
    kind="training",
    facts=(Fact("optimizer", (Candidate("adamw_torch", place('"adamw_torch"')),), Origin.WRITTEN, key="optim"),),
)

report = Report((finding,), (job,), files_checked=1, documents=documents)

"""Plans through the whole of vramlint: the edited files, read again, need what the plan promises."""

import pytest

from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.discovery.forms import form_of
from vramlint.engine import load_rules
from vramlint.findings import Finding, Fix, Report
from vramlint.settings import Settings
from vramlint.text import Document, apply_edits

RULES = load_rules()

SCRIPT = """from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("openai-community/gpt2", model_max_length=1024)
model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", dtype="float32")
args = TrainingArguments(
    output_dir="out",  # kept
    per_device_train_batch_size={batch},
    optim="adamw_torch",
)
trainer = Trainer(model=model, args=args, train_dataset=dataset)
trainer.train()
"""

RECIPE = """# a recipe
model_name_or_path: openai-community/gpt2
torch_dtype: float32
output_dir: out
per_device_train_batch_size: {batch}
max_length: 1024
bf16: false  # unlike the default
gradient_checkpointing: no
"""


def report(files: dict[str, str], gpu: str) -> Report:
    around = Surroundings(load=lambda path: files.get(path, "").encode() or None, hardware=Hardware(gpu=gpu))
    path = next(iter(files))
    return lint([SourceFile(path, form_of(path), files[path].encode(), True)], Settings(), RULES, around)


def misfit(found: Report) -> Finding | None:
    return next((finding for finding in found.findings if finding.code in ("VRAM101", "VRAM102", "VRAM104")), None)


@pytest.mark.parametrize(("path", "text"), [("train.py", SCRIPT), ("recipe.yaml", RECIPE)])
@pytest.mark.parametrize(("batch", "gpu"), [(32, "24GiB"), (64, "16GiB"), (12, "8GiB")])
def test_a_plan_keeps_its_promise(path: str, text: str, batch: int, gpu: str) -> None:
    files = {path: text.format(batch=batch)}
    finding = misfit(report(files, gpu))
    assert finding is not None
    fix = finding.fix
    assert isinstance(fix, Fix)
    assert fix.fits
    assert all(step.edits for step in fix.steps), [step.description for step in fix.steps]
    edits = [edit for step in fix.steps for edit in step.edits]
    after = apply_edits(Document.of(path, files[path]), edits)
    again = report({path: after}, gpu)
    assert misfit(again) is None, after
    assert max(job.high.device_low for job in again.jobs if job.high) == pytest.approx(fix.peak, rel=0.01)
    assert [line for line in files[path].splitlines() if "#" in line] == [
        line for line in after.splitlines() if "#" in line
    ]

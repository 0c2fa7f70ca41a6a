"""Edits of a plan do what the plan says, or are not offered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report import samples
from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.api.verifying import edit, verified
from vramlint.engine.loader import load_rules
from vramlint.findings import Finding, Report
from vramlint.settings import Settings
from vramlint.text import Document, Edit, Place, Span

RULES = load_rules()
SCRIPT = b"""\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", dtype="float32")
args = TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=16,
)
Trainer(model=model, args=args).train()
# vramlint: sequence-length=512
"""


def check(content: bytes) -> Report:
    around = Surroundings(hardware=Hardware("8GiB"))
    return lint([SourceFile("train.py", "python", content, explicit=True)], Settings(), RULES, around)


def test_applied_edits_bring_the_promised_peak() -> None:
    report = check(SCRIPT)
    (finding,) = (finding for finding in report.findings if finding.code == "VRAM101")
    assert finding.fix is not None
    assert finding.fix.fits
    edits = [change for step in finding.fix.steps for change in step.edits]
    changed = edit(edits, report.documents)
    assert changed is not None
    after = check(changed["train.py"].text.encode())
    assert not [finding for finding in after.findings if finding.code in {"VRAM101", "VRAM102"}]
    assert after.jobs[0].high is not None
    assert after.jobs[0].high.device_low == pytest.approx(finding.fix.peak, rel=0.01)


def edits_after(peak: int | None, finding: Finding = samples.exceeds) -> int:
    fix = verified(finding, samples.documents, lambda changed: peak).fix
    assert fix is not None
    return sum(len(step.edits) for step in fix.steps)


def test_edits_that_do_something_else_are_not_offered() -> None:
    assert edits_after(samples.fix.peak) == 2
    assert edits_after(samples.fix.peak * 2) == 0
    assert edits_after(None) == 0


def test_a_plan_with_words_in_it_must_at_least_help() -> None:
    steps = (replace(samples.fix.steps[0], edits=()), samples.fix.steps[1])
    finding = replace(samples.exceeds, fix=replace(samples.fix, steps=steps))
    assert edits_after(samples.high.device_low - 1, finding) == 1
    assert edits_after(samples.high.device_low, finding) == 0


@pytest.mark.parametrize("path", ["a.py", "absent.py"])
def test_edits_that_overlap_or_have_no_file(path: str) -> None:
    span = Span(1, 1, 1, 3)
    edits = [Edit(Place(path, span), "x"), Edit(Place(path, span), "y")]
    assert edit(edits, {"a.py": Document.of("a.py", "abcd\n")}) is None

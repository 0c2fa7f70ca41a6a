"""Edits of a plan do what the plan says and nothing worse, or are not offered."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from tests.report import samples
from vramlint.api import Hardware, SourceFile, Surroundings, lint
from vramlint.api.verifying import Trial, edit, verified, worse
from vramlint.engine.loader import load_rules
from vramlint.findings import Change, Finding, Fix, Report, Severity, Step
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
BEFORE = samples.high.device_need


def check(content: bytes, surroundings: Surroundings, settings: Settings | None = None) -> Report:
    file = SourceFile("train.py", "python", content, explicit=True)
    return lint([file], settings or Settings(), RULES, surroundings)


AROUND = Surroundings(hardware=Hardware("8GiB"))


def misfit(report: Report) -> Finding:
    (finding,) = (finding for finding in report.findings if finding.code == "VRAM101")
    return finding


def test_applied_edits_bring_the_promised_peak() -> None:
    report = check(SCRIPT, AROUND)
    fix = misfit(report).fix
    assert isinstance(fix, Fix)
    assert fix.fits
    changed = edit(fix.edits(unsafe=True), report.documents)
    assert changed is not None
    after = check(changed["train.py"].text.encode(), AROUND)
    assert not [finding for finding in after.findings if finding.code in {"VRAM101", "VRAM102"}]
    assert after.jobs[0].high is not None
    assert after.jobs[0].high.device_low == pytest.approx(fix.peak, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "editable", "fixable"),
    [
        (Settings(), True, True),
        (Settings(), False, False),
        (Settings(unfixable=("VRAM1",)), True, False),
        (Settings(fixable=("exceeds-gpu-memory",), unfixable=("ALL",)), True, True),
        (Settings(fixable=("VRAM4",)), True, False),
    ],
)
def test_what_may_not_be_fixed_is_shown_alone(settings: Settings, editable: bool, fixable: bool) -> None:
    finding = misfit(check(SCRIPT, AROUND._replace(editable=lambda path: editable), settings))
    assert finding.fixable(unsafe=True) is fixable
    assert finding.fix is not None
    assert finding.fix.steps


def tried(after: Trial | None, finding: Finding = samples.exceeds, alone: Trial | None = None) -> Change:
    """The fix of a finding, given what its edits come to, and those of one step alone."""

    def retry(changed: Mapping[str, Document]) -> Trial | None:
        whole = "paged_adamw_8bit" in changed["train.py"].text and "torch.bfloat16" in changed["train.py"].text
        return after if whole or alone is None else alone

    fix = verified(finding, Trial(BEFORE, (finding,)), samples.documents, retry).fix
    assert fix is not None
    return fix


def test_edits_that_do_something_else_are_not_offered() -> None:
    assert len(tried(Trial(samples.fix.peak, ())).edits(unsafe=True)) == 2
    assert tried(Trial(samples.fix.peak * 2, ())).edits(unsafe=True) == ()
    assert tried(None).edits(unsafe=True) == ()
    assert tried(Trial(None, ())).edits(unsafe=True) == ()


def test_edits_by_which_another_rule_fires_are_not_offered() -> None:
    other = replace(samples.exceeds, code="VRAM510", estimate=None)
    assert tried(Trial(samples.fix.peak, (other,))).applicability == "display"


def test_a_milder_finding_about_memory_may_be_left() -> None:
    close = replace(samples.exceeds, code="VRAM103", severity=Severity.WARNING)
    assert tried(Trial(samples.fix.peak, (close,))).applicability == "unsafe"
    warning = replace(samples.exceeds, severity=Severity.WARNING)
    worst = replace(samples.exceeds, code="VRAM103", severity=Severity.ERROR)
    assert worse((worst,), (warning,), (warning,)) == ("VRAM103",)
    assert worse((close, close), (samples.exceeds,), (samples.exceeds,)) == ("VRAM103",)


def test_a_plan_with_words_in_it_must_at_least_help() -> None:
    steps = (replace(samples.fix.steps[0], edits=()), samples.fix.steps[1])
    finding = replace(samples.exceeds, fix=replace(samples.fix, steps=steps))
    assert len(tried(Trial(BEFORE - 1, ()), finding).edits(unsafe=True)) == 1
    assert tried(Trial(BEFORE, ()), finding).edits(unsafe=True) == ()


@pytest.mark.parametrize(("peak", "edits"), [(BEFORE - 1, 1), (BEFORE, 0), (BEFORE + 1, 0)])
def test_safe_steps_alone_are_made_where_they_help(peak: int, edits: int) -> None:
    steps = (replace(samples.fix.steps[0], safe=True), samples.fix.steps[1])
    finding = replace(samples.exceeds, fix=replace(samples.fix, steps=steps))
    fix = tried(Trial(samples.fix.peak, ()), finding, alone=Trial(peak, (finding,)))
    assert len(fix.edits(unsafe=False)) == edits
    assert len(fix.edits(unsafe=True)) == 2


@pytest.mark.parametrize(
    ("after", "offered"),
    [
        (Trial(BEFORE, ()), True),
        (Trial(BEFORE, (samples.misspelt,)), False),
        (Trial(BEFORE + 1, ()), False),
        (Trial(None, ()), False),
    ],
)
def test_a_change_that_is_no_plan_takes_its_finding_away(after: Trial, offered: bool) -> None:
    place = samples.place("ds.json", "zero_optimisation")
    step = Step("`zero_optimization`", 0, "", safe=True, edits=(Edit(place, "zero_optimization"),))
    finding = replace(samples.misspelt, fix=Change((step,)))
    fix = verified(finding, Trial(BEFORE, (finding,)), samples.documents, lambda changed: after).fix
    assert fix is not None
    assert bool(fix.edits(unsafe=False)) is offered


@pytest.mark.parametrize("path", ["a.py", "absent.py"])
def test_edits_that_overlap_or_have_no_file(path: str) -> None:
    span = Span(1, 1, 1, 3)
    edits = [Edit(Place(path, span), "x"), Edit(Place(path, span), "y")]
    assert edit(edits, {"a.py": Document.of("a.py", "abcd\n")}) is None


def test_a_peak_below_the_promise_is_the_one_that_is_told() -> None:
    fix = samples.exceeds.fix
    assert isinstance(fix, Fix)
    found = tried(Trial(fix.peak - 2**30, ()))
    assert isinstance(found, Fix)
    assert found.peak == fix.peak - 2**30
    assert [step.edits for step in found.steps] == [step.edits for step in fix.steps]
    assert sum(step.saves for step in found.steps) == sum(step.saves for step in fix.steps) + 2**30


def test_what_has_to_be_installed_is_not_made_as_safe() -> None:
    step = Step(
        "use_liger_kernel=True", 1, "", True, (Edit(Place("a.py", Span(1, 1, 1, 1)), "x"),), package="liger-kernel"
    )
    assert Change((step,)).applicability == "unsafe"
    assert Change((replace(step, package=""),)).applicability == "safe"
    assert not Change((step,)).taken(unsafe=False)

"""The core: values in, values out, no disk."""

from __future__ import annotations

import pytest

from vramlint.api import Hardware, SourceFile, Surroundings, UnknownGpuError, lint
from vramlint.engine.loader import load_rules
from vramlint.findings import Report
from vramlint.settings import Settings

RULES = load_rules()

SCRIPT = b"""\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2", torch_dtype="float32")
args = TrainingArguments(output_dir="out", per_device_train_batch_size=4, deepspeed="ds.json", bf16=True)
Trainer(model=model, args=args).train()
"""
DEEPSPEED = b'{"zero_optimization": {"stage": 3}, "bf16": {"enabled": true}, "gradient_clippin": 1.0}\n'


def check(*files: SourceFile, gpu: str = "", settings: Settings | None = None, **around: bytes) -> Report:
    disk = {name.replace("_", "."): content for name, content in around.items()}
    return lint(files, settings or Settings(), RULES, Surroundings(load=disk.get, hardware=Hardware(gpu)))


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


script = SourceFile("train.py", "python", SCRIPT, explicit=True)
deepspeed = SourceFile("ds.json", "json", DEEPSPEED, explicit=True)


def test_a_linked_file_is_loaded_and_findings_point_into_it() -> None:
    report = check(script, ds_json=DEEPSPEED)
    (finding,) = (finding for finding in report.findings if finding.code == "VRAM802")
    assert finding.place.path == "ds.json"
    assert report.documents["ds.json"].slice(finding.place.span) == '"gradient_clippin"'


def test_a_file_that_is_linked_and_checked_is_reported_once() -> None:
    report = check(deepspeed, script, ds_json=DEEPSPEED)
    assert sum(finding.code == "VRAM802" for finding in report.findings) == 1
    assert [job.kind for job in report.jobs] == ["training"]
    assert report.files_checked == 2


def test_directives_of_a_linked_file_count() -> None:
    said = DEEPSPEED.replace(b"}\n", b"} // vramlint: ignore[unknown-deepspeed-key]\n")
    report = check(script, ds_json=said)
    assert "VRAM802" not in codes(report)
    assert report.suppressed >= 1


def test_scripts_ask_the_declared_gpu() -> None:
    asking = SCRIPT.replace(b"bf16=True", b"bf16=torch.cuda.is_bf16_supported()").replace(
        b"from", b"import torch\nfrom", 1
    )
    file = SourceFile("train.py", "python", asking, explicit=True)
    for gpu, expected in (("a100-sxm4-80gb", True), ("v100-pcie-32gb", False)):
        (job,) = check(file, gpu=gpu, ds_json=DEEPSPEED).jobs
        assert next(fact for fact in job.facts if fact.name == "bf16").value is expected


def test_a_data_file_of_no_vocabulary_is_skipped() -> None:
    report = check(SourceFile("package.json", "json", b'{"name": "x"}', explicit=True))
    assert report.files_skipped == 1
    assert not report.findings
    assert not report.jobs


@pytest.mark.parametrize("settings", [Settings(gpu="rtx3091"), Settings()])
def test_an_unknown_gpu_of_the_caller_is_an_error(settings: Settings) -> None:
    with pytest.raises(UnknownGpuError, match="rtx3091"):
        check(deepspeed, settings=settings, gpu="" if settings.gpu else "rtx3091")


def test_settings_may_differ_by_path() -> None:
    files = [SourceFile(name, "json", DEEPSPEED, explicit=True) for name in ("a.json", "b.json")]
    chosen = {"a.json": Settings(ignore=("VRAM802",)), "b.json": Settings()}
    report = lint(files, chosen.__getitem__, lambda settings: RULES)
    assert {finding.place.path for finding in report.findings if finding.code == "VRAM802"} == {"b.json"}


def test_nothing_comes_of_nothing() -> None:
    assert lint((), Settings(), RULES) == Report((), ())

"""`explain` prices a run, and knows how long it is where its files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from vramlint.__main__ import main

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B", dtype=torch.bfloat16)
args = TrainingArguments(output_dir="o", per_device_train_batch_size=4, bf16=True{more})
Trainer(model, args, train_dataset=data).train()
"""


@pytest.mark.parametrize(
    ("more", "hours"), [(", max_steps=1000", "for 1000 steps"), (", max_steps=-1", ""), (", num_train_epochs=2", "")]
)
def test_the_hours_of_a_run_need_its_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, hours: str
) -> None:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT.format(more=more), encoding="utf-8")
    assert main(["explain", "--gpu", "h100", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "computation of a step" in printed
    assert "for a billion tokens" in printed
    assert hours in printed
    assert printed.count("GPU-hours") == (2 if hours else 1)

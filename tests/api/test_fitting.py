"""A file of LightningCLI's settings, and the program beside it that takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.surfaces.frameworks.explained import Explained, values
from vramlint.__main__ import main

PROGRAM = """\
import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM


class Module(L.LightningModule):
    def __init__(self, name: str = "openai-community/gpt2"):
        super().__init__()
        self.model = AutoModelForCausalLM.from_pretrained(name)

    def training_step(self, batch, index):
        return self.model(**batch).loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


class Data(L.LightningDataModule):
    def __init__(self, size: int = 4):
        super().__init__()
        self.size = size

    def train_dataloader(self):
        return DataLoader(rows, batch_size=self.size)


if __name__ == "__main__":
    LightningCLI(Module, Data)
"""
SETTINGS = """\
trainer:
  precision: bf16-mixed
  devices: 2
  accumulate_grad_batches: 3
  max_epochs: 1
model:
  name: openai-community/gpt2-medium
data:
  size: 8
"""
KNOWN = {
    "model": "openai-community/gpt2-medium",
    "optimizer": "sgd",
    "micro_batch_size": 8,
    "gradient_accumulation_steps": 3,
    "world_size": 2,
    "precision": "bf16-mixed",
}


def test_the_program_beside_the_settings_is_read_with_them(explained: Explained) -> None:
    explained.write("main.py", PROGRAM)
    job = explained.job("configs/fit.yaml", SETTINGS)

    assert values(job, *KNOWN) == KNOWN
    assert job["vocabulary"]["name"] == "lightning"


def test_settings_alone_say_what_they_can(explained: Explained) -> None:
    job = explained.job("configs/fit.yaml", SETTINGS)

    assert values(job, "optimizer", "gradient_accumulation_steps") == {
        "optimizer": None,
        "gradient_accumulation_steps": 3,
    }


def test_a_launcher_that_names_the_settings_is_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "main.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "configs" / "fit.yaml").write_text(SETTINGS, encoding="utf-8")
    (tmp_path / "run.sh").write_text("python main.py fit --config configs/fit.yaml\n", encoding="utf-8")

    main(["check", "."])

    shown = capsys.readouterr()
    assert "checked 1 job" in shown.out + shown.err
    assert "run.sh runs main.py" in shown.out


OWN = """\
from dataclasses import dataclass

import lightning as L
from torch.utils.data import DataLoader


class Rows(L.LightningDataModule):
    def __init__(self, rows: int = 1, max_seq_length: int = 99):
        super().__init__()


@dataclass
class Own(Rows):
    rows: int = 2
    max_seq_length: int = 128

    def __post_init__(self):
        super().__init__()

    def train_dataloader(self):
        return DataLoader(texts, batch_size=self.rows)
"""


def test_classes_that_only_the_settings_name_are_made_of_what_they_say(explained: Explained) -> None:
    module, _, _ = PROGRAM.partition("class Data(")
    explained.write("tuning/train.py", f"{module}LightningCLI(Module)\n")
    explained.write("tuning/own.py", OWN)
    given = "data:\n  class_path: tuning.own.Own\n  init_args:\n    rows: 6\n    max_seq_length: 512\n"
    job = explained.job("tuning/fit.yaml", SETTINGS.partition("data:")[0] + given)

    assert values(job, "micro_batch_size", "sequence_length") == {"micro_batch_size": 6, "sequence_length": 512}

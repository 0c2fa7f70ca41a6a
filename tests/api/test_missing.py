"""Configurations that are named and not there."""

from __future__ import annotations

import pytest

from tests.surfaces.frameworks.explained import Explained

RUN = """\
deepspeed train.py --deepspeed ds.json --per_device_train_batch_size 1 --gradient_accumulation_steps 2 --bf16 True
"""
SCRIPT = """
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
Trainer(model=model, args=args, train_dataset=rows).train()
"""


def _missing(explained: Explained) -> list[str]:
    return explained.findings("run.sh", RUN, part="missing-file")


def test_a_configuration_beside_a_program_that_is_not_here_either(explained: Explained) -> None:
    assert _missing(explained) == []


def test_a_configuration_beside_a_program_that_is_here(explained: Explained) -> None:
    explained.write("train.py", SCRIPT)
    (message,) = _missing(explained)
    assert message.startswith("DeepSpeed configuration ds.json not found")


LOOP = """
import argparse
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

accelerator = Accelerator()
model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
loader = DataLoader(rows, batch_size=2, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer = accelerator.prepare(model, optimizer)
for batch in loader:
    loss = model(**batch).loss
    accelerator.backward(loss)
    optimizer.step()
"""


@pytest.mark.parametrize("size", ["1", '"auto"'])
def test_the_loader_of_a_loop_makes_the_batches_whatever_the_engine_counts_with(
    explained: Explained, size: str
) -> None:
    explained.write("loop.py", LOOP)
    explained.write("ds.json", f'{{"train_micro_batch_size_per_gpu": {size}, "zero_optimization": {{"stage": 2}}}}')
    job = explained.job("loop.sh", "accelerate launch --use_deepspeed --deepspeed_config_file ds.json loop.py\n")
    (batch,) = [fact for fact in job["facts"] if fact["name"] == "micro_batch_size"]
    assert [item["value"] for item in batch["candidates"]] == [2]

"""Functions that datasets are given."""

from __future__ import annotations

import pytest

from tests.surfaces.reading import says, sheet

HEAD = """\
from functools import partial
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

LENGTH = 256
tokenizer = AutoTokenizer.from_pretrained("openai-community/gpt2")
data = load_dataset("gsm8k")

"""
OWN = """\
def tokenize(row, length=64):
    return tokenizer(row["text"], truncation=True, max_length=length)

"""
TAIL = """
model = AutoModelForCausalLM.from_pretrained("openai-community/gpt2")
Trainer(model=model, args=TrainingArguments(output_dir="out"), train_dataset=data).train()
"""


@pytest.mark.parametrize(
    ("step", "length"),
    [
        ('data = data.map(lambda row: tokenizer(row["text"], truncation=True, max_length=LENGTH), batched=True)', 256),
        ('data.set_transform(lambda row: tokenizer(row["text"], truncation=True, max_length=128))', 128),
        ("data = data.map(partial(tokenize, length=512))", 512),
        ('data = data.map(tokenize, fn_kwargs={"length": 384}, remove_columns=["text"])', 384),
        ("data = data.map(function=tokenize)", 64),
        ("data = data.filter(lambda row: row).train_test_split(0.1)['train'].map(tokenize)", 64),
    ],
)
def test_what_a_dataset_is_given_runs_on_a_sample(step: str, length: int) -> None:
    source = HEAD + (OWN if "tokenize)" in step or "tokenize," in step else "") + step + TAIL
    assert says(sheet(source), "sequence_length") == length

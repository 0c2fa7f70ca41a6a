"""Rows of joined samples, and samples that a program cuts or fills by itself."""

from __future__ import annotations

from tests.surfaces.reading import line, says, sheet
from vramlint.readers.python import read_program
from vramlint.surfaces import program_sheet
from vramlint.text import Document

GROUPED = """
import argparse
from itertools import chain
from datasets import load_dataset, load_from_disk
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, default_data_collator

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--block", type=int, default=768)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained("gpt2")
    block_size = min(args.block, tokenizer.model_max_length)

    def rows(examples):
        joined = {key: list(chain(*examples[key])) for key in examples}
        total = len(joined["input_ids"]) // block_size * block_size
        found = {k: [t[i : i + block_size] for i in range(0, total, block_size)] for k, t in joined.items()}
        found["labels"] = found["input_ids"].copy()
        return found

    try:
        data = load_from_disk("cache")
    except Exception:
        data = load_dataset("text", data_files="a.txt").map(lambda x: tokenizer(x["text"]), batched=True)
        data = data.map(rows, batched=True)
    model = AutoModelForCausalLM.from_pretrained("gpt2")
    Trainer(model=model, args=TrainingArguments("out"), train_dataset=data, data_collator=default_data_collator).train()

main()
"""


def test_grouped_texts_are_packed_rows() -> None:
    found = sheet(GROUPED)
    assert says(found, "packing") is True
    assert says(found, "sequence_length") == 768
    assert GROUPED.splitlines()[line(found, "sequence_length") - 1].strip().startswith('parser.add_argument("--block"')


def test_a_program_called_pretraining_pretrains() -> None:
    program, _ = read_program(Document.of("scripts/run_pt.py", GROUPED), {})
    assert program is not None
    assert says(program_sheet(program), "objective") == "pretrain"
    assert says(sheet(GROUPED), "objective") == "sft"


def test_a_function_that_nothing_maps_packs_nothing() -> None:
    found = sheet(GROUPED.replace("        data = data.map(rows, batched=True)\n", ""))
    assert found.get("packing") is None


CONSTANT = """
from torch.utils.data import IterableDataset
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

class Rows(IterableDataset):
    def __init__(self, tokenizer, data, seq_length=1024):
        self.tokenizer, self.data = tokenizer, data
        self.seq_length = seq_length

    def __iter__(self):
        ids = []
        for one in self.tokenizer(self.data)["input_ids"]:
            ids.extend(one)
        for start in range(0, len(ids), self.seq_length):
            yield {"input_ids": ids[start : start + self.seq_length]}

model = AutoModelForCausalLM.from_pretrained("gpt2")
rows = Rows(tokenizer, texts, seq_length=2048)
Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows).train()
"""


def test_a_data_set_of_constant_length() -> None:
    found = sheet(CONSTANT)
    assert (says(found, "packing"), says(found, "sequence_length")) == (True, 2048)


def test_batches_of_texts_are_no_rows() -> None:
    found = sheet(CONSTANT.replace("self.seq_length", "self.batch"))
    assert found.get("packing") is None


PADDED = """
from accelerate import Accelerator
from torch.utils.data import DataLoader
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

def main():
    accelerator = Accelerator()
    max_length = 96
    tokenizer = AutoTokenizer.from_pretrained("gpt2")

    def prepare(examples):
        inputs = tokenizer(examples["text"])
        for index, ids in enumerate(inputs["input_ids"]):
            ids = [0] * (max_length - len(ids)) + ids
            inputs["input_ids"][index] = torch.tensor(ids[:max_length])
        return inputs

    data = load_data().map(prepare, batched=True)
    model = AutoModelForCausalLM.from_pretrained("gpt2")
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(data, batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()

main()
"""


def test_samples_that_a_function_cuts_itself() -> None:
    found = sheet(PADDED)
    assert says(found, "sequence_length") == 96
    assert line(found, "sequence_length") == PADDED.splitlines().index("    max_length = 96") + 1


PAIR = """
from dataclasses import dataclass
from transformers import AutoModel, DataCollatorForSeq2Seq, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Data:
    max_source_length: int = 64
    max_target_length: int = 128

data, args = HfArgumentParser((Data, TrainingArguments)).parse_args_into_dataclasses()
model = AutoModel.from_pretrained("org/chat-6b", trust_remote_code=True)
model = model.quantize(4)

def prepare(examples):
    max_seq_length = data.max_source_length + data.max_target_length + 1
    for ids in examples["input_ids"]:
        ids += [0] * (max_seq_length - len(ids))
    return examples

class Own(Trainer):
    pass

rows = dataset.map(prepare, batched=True)
Own(model=model, args=args, train_dataset=rows, data_collator=DataCollatorForSeq2Seq(tokenizer, model=model)).train()
"""


def test_source_target_and_an_end() -> None:
    found = sheet(PAIR)
    assert says(found, "sequence_length") == 193
    assert line(found, "sequence_length") == PAIR.splitlines().index("    max_source_length: int = 64") + 1


def test_code_of_its_own_says_bits_and_its_collator_the_objective() -> None:
    found = sheet(PAIR)
    assert (says(found, "quantization_bits"), says(found, "objective")) == (4, "sft")


DPO = """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

class DPOTrainer(Trainer):
    def __init__(self, reference_model=None, **kwargs):
        super().__init__(**kwargs)

model = AutoModelForCausalLM.from_pretrained("org/policy")
DPOTrainer(
    model=model,
    reference_model=AutoModelForCausalLM.from_pretrained("org/reference"),
    args=TrainingArguments("out"),
    train_dataset=data,
).train()
"""


def test_a_trainer_of_its_own_is_known_by_its_name() -> None:
    found = sheet(DPO)
    assert (says(found, "objective"), says(found, "reference_model")) == ("dpo", "org/reference")


MAPPED = """
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

def prepare(sample, tokenizer, longest=512):
    return tokenizer(sample["text"], truncation=True, max_length=longest)

tokenizer = AutoTokenizer.from_pretrained("gpt2")
rows = dataset.map(lambda sample: prepare(sample, tokenizer))
model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows).train()
"""


def test_what_a_data_set_maps_gets_its_arguments() -> None:
    assert says(sheet(MAPPED), "sequence_length") == 512
    given = MAPPED.replace("lambda sample: prepare(sample, tokenizer)", "prepare, fn_kwargs=extra")
    given = given.replace("rows =", 'extra = {"tokenizer": tokenizer, "longest": 256}\nrows =')
    assert says(sheet(given), "sequence_length") == 256


def test_the_longest_sample_that_a_filter_keeps() -> None:
    kept = 'rows = dataset.map(prepare_all).filter(lambda row: len(row["input_ids"]) <= 320)'
    source = MAPPED.replace("rows = dataset.map(lambda sample: prepare(sample, tokenizer))", kept)
    assert says(sheet(source), "sequence_length") == 320


COLLATED = """
import torch
from functools import partial
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

def collate(batch, device="cpu", allowed_max_length=None):
    return torch.stack([ids[:allowed_max_length] for ids in batch])

model = AutoModelForCausalLM.from_pretrained("gpt2")
optimizer = torch.optim.AdamW(model.parameters())
for batch in DataLoader(rows, batch_size=2, shuffle=True, collate_fn=partial(collate, allowed_max_length=448)):
    loss = model(batch).loss
    loss.backward()
    optimizer.step()
"""


def test_what_puts_samples_together_cuts_them() -> None:
    assert says(sheet(COLLATED), "sequence_length") == 448


def test_a_buffer_that_rows_are_taken_from() -> None:
    steps = """        for start in range(0, len(ids), self.seq_length):
            yield {"input_ids": ids[start : start + self.seq_length]}
"""
    taken = """        while len(ids) > self.seq_length:
            yield {"input_ids": ids[: self.seq_length]}
            ids = ids[self.seq_length :]
"""
    assert steps in CONSTANT
    found = sheet(CONSTANT.replace(steps, taken))
    assert (says(found, "packing"), says(found, "sequence_length")) == (True, 2048)


def test_a_tokenizer_that_fills_to_its_own_maximum() -> None:
    source = MAPPED.replace("truncation=True, max_length=longest", 'truncation=True, padding="max_length"')
    fact = sheet(source).get("sequence_length")
    assert fact is not None
    assert (fact.candidates, fact.reason) == ((), "the tokenizer fills samples to its own maximum (line 5)")


SHUFFLING = """
import argparse
import random
from dataclasses import dataclass
from torch.utils.data import Dataset
from transformers import AutoModel, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

class Pairs(Dataset):
    def __len__(self):
        return 1000

    def mixed(self, text):
        parts = []
        chunk_size = len(text) // 3 + 1
        for start in range(0, len(text), chunk_size):
            parts.append(text[start : start + chunk_size])
        random.shuffle(parts)
        return " ".join(parts)

    def __getitem__(self, index):
        return self.mixed(queries[index]), passages[index]

@dataclass
class PairCollator(DataCollatorWithPadding):
    query_max_len: int = 24
    passage_max_len: int = 96

    def __call__(self, features):
        first = self.tokenizer([f[0] for f in features], truncation=True, max_length=self.query_max_len)
        second = self.tokenizer([f[1] for f in features], truncation=True, max_length=self.passage_max_len)
        return {"queries": first, "passages": second}

parser = argparse.ArgumentParser()
parser.add_argument("--passage_len", type=int, default=320)
args = parser.parse_args()
tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
collator = PairCollator(tokenizer, query_max_len=40, passage_max_len=args.passage_len)
model = AutoModel.from_pretrained("bert-base-uncased")
Trainer(model=model, args=TrainingArguments("out"), train_dataset=Pairs(), data_collator=collator).train()
"""


def test_parts_of_one_sample_are_no_packed_rows() -> None:
    found = sheet(SHUFFLING).get("packing")
    assert found is None or found.value is False
    assert says(sheet(SHUFFLING.replace("len(text) // 3 + 1", "512")), "packing") is True


def test_the_bound_by_which_a_collator_truncates() -> None:
    source = SHUFFLING.replace("query_max_len=40", "query_max_len=args.passage_len")
    found = sheet(source)
    assert says(found, "sequence_length") == 320
    assert source.splitlines()[line(found, "sequence_length") - 1].startswith('parser.add_argument("--passage_len"')
    bounds = sheet(SHUFFLING).get("sequence_length")
    assert bounds is not None
    assert {item.value for item in bounds.candidates} == {40, 320}

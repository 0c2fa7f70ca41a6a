"""Places that decide facts of a program, or say them too."""

from __future__ import annotations

from tests.resolve.making import files, run
from tests.surfaces.reading import sheet
from vramlint.facts import Fact, Sheet
from vramlint.readers.python import read_program
from vramlint.surfaces import program_sheet
from vramlint.text import Document, Place

SCRIPT = """\
import argparse
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--q_lora", type=bool, default=False)
parser.add_argument(
    "--use_lora",
    type=bool,
    default={lora},
)
parser.add_argument("--flash", action="store_true")
parser.add_argument("--size", default="small")
args = parser.parse_args()
SIZE = 4
NAMES = {{"small": "gpt2", "large": "gpt2-xl"}}
model = AutoModelForCausalLM.from_pretrained(
    NAMES[args.size],
    quantization_config=BitsAndBytesConfig(load_in_4bit=True) if args.q_lora else None,
    attn_implementation="flash_attention_2" if args.flash else None,
)
if args.use_lora:
    model = get_peft_model(model, LoraConfig(r=8))
training = TrainingArguments(
    output_dir="out",
    per_device_train_batch_size=SIZE,
)
trainer = Trainer(model=model, args=training)
trainer.train()
"""


def lines(places: tuple[Place, ...]) -> list[tuple[int, int]]:
    return [(place.span.line, place.span.end_line) for place in places]


def fact(found: Sheet, name: str) -> Fact:
    said = found.get(name)
    assert said is not None
    return said


def settled(found: Sheet, name: str) -> Fact:
    """The fact after defaults."""
    said = run(found).get(name)
    assert said is not None
    return said


def test_settings_leave_adapter_quantization_and_kernel_out() -> None:
    found = sheet(SCRIPT.format(lora=False))
    assert settled(found, "tuning").value == "full"
    assert lines(settled(found, "tuning").decided) == [(11, 11)]
    assert lines(settled(found, "tuning").also) == []
    assert lines(settled(found, "quantization_bits").decided) == [(7, 7)]
    assert lines(settled(found, "attention_implementation").decided) == [(13, 13)]
    assert lines(settled(found, "activation_checkpointing").decided) == []


def test_setting_that_turns_adapters_on_and_the_one_that_keeps_them_unquantized() -> None:
    tuning = settled(sheet(SCRIPT.format(lora=True)), "tuning")
    assert tuning.value == "lora"
    assert tuning.place is not None
    assert tuning.place.span.line == 24
    assert lines(tuning.decided) == [(11, 11), (7, 7)]
    assert lines(tuning.also) == [(9, 11)]  # the declaration, from its name to its value


def test_value_of_a_table_is_decided_by_the_setting_that_looks_it_up() -> None:
    model = fact(sheet(SCRIPT.format(lora=True)), "model")
    assert model.value == "gpt2"
    assert lines(model.decided) == [(14, 14)]


def test_where_a_constant_is_passed_on() -> None:
    size = fact(sheet(SCRIPT.format(lora=True)), "micro_batch_size")
    assert size.place is not None
    assert size.place.span.line == 16
    assert lines(size.also) == [(27, 27)]


def test_objective_is_said_by_model_and_config_too() -> None:
    assert lines(fact(sheet(SCRIPT.format(lora=True)), "objective").also) == [(18, 22)]
    found = sheet(
        """
        from trl import ORPOConfig, ORPOTrainer
        config = ORPOConfig(output_dir="out")
        ORPOTrainer(model="gpt2", args=config).train()
        """
    )
    assert lines(fact(found, "objective").also) == [(3, 3)]


def test_loop_says_that_it_trains() -> None:
    found = sheet(
        """
        import torch
        from transformers import AutoModelForCausalLM
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        optimizer = torch.optim.AdamW(model.parameters())
        for epoch in range(3):
            for batch in loader:
                loss = model(**batch).loss
                loss.backward()
                optimizer.step()
        """
    )
    assert lines(fact(found, "objective").also) == [(4, 4), (6, 6), (7, 7)]


def test_precision_of_flags_that_are_never_given() -> None:
    found = sheet(
        """
        import argparse
        from transformers import Trainer, TrainingArguments
        parser = argparse.ArgumentParser()
        parser.add_argument("--fp16", action="store_true")
        args = parser.parse_args()
        half = {}
        if args.fp16:
            half = {"fp16": True}
        Trainer(model="gpt2", args=TrainingArguments("out", **half)).train()
        """
    )
    assert lines(settled(found, "fp16").decided) == [(5, 5)]


def read(text: str, others: dict[str, str]) -> Sheet:
    documents = {path: Document.of(path, content) for path, content in others.items()}
    program, _ = read_program(
        Document.of("train.py", text), {}, lambda name: documents.get(f"{name}.py"), files=documents.get
    )
    assert program is not None
    return program_sheet(program)


def test_facts_of_another_module_are_reached_through_the_call_into_it() -> None:
    module = """\
from transformers import AutoModelForCausalLM
def load():
    return AutoModelForCausalLM.from_pretrained("gpt2")
"""
    script = """\
from transformers import Trainer, TrainingArguments
from models import load
model = load()
Trainer(model=model, args=TrainingArguments("out")).train()
"""
    model = fact(read(script, {"models.py": module}), "model")
    assert model.place is not None
    assert model.place.path == "models.py"
    assert lines(model.through) == [(3, 3)]


def test_configuration_that_the_script_loads_is_named_by_its_setting() -> None:
    script = """\
import argparse, json
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
parser = argparse.ArgumentParser()
parser.add_argument("--config",
                    default="ds.json")
parser.add_argument("--stage", type=int, default=2)
args = parser.parse_args()
config = json.load(open(args.config))
if config["zero_optimization"]["stage"] != args.stage:
    config["zero_optimization"]["stage"] = args.stage
extra = {"deepspeed": config}
model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=TrainingArguments("out", **extra)).train()
"""
    others = {"ds.json": '{"zero_optimization": {"stage": 2}}'}
    found = run(read(script, others), files(others))
    stage = found.get("zero_stage")
    assert stage is not None
    assert stage.value == 2
    assert stage.place is not None
    assert stage.place.path == "ds.json"
    assert lines(stage.through) == [(4, 5)]
    assert lines(stage.decided) == [(6, 6)]


def test_all_branches_around_an_adapter_decide_that_there_is_one() -> None:
    found = sheet(
        """
        import argparse
        from peft import LoraConfig, PeftModel, get_peft_model
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        parser = argparse.ArgumentParser()
        parser.add_argument("--use_peft", type=bool, default=True)
        parser.add_argument("--earlier", default=None)
        args = parser.parse_args()
        model = AutoModelForCausalLM.from_pretrained("gpt2")
        if args.use_peft:
            if args.earlier is not None:
                model = PeftModel.from_pretrained(model, args.earlier)
            else:
                config = LoraConfig(r=8)
                model = get_peft_model(model, config)
        Trainer(model=model, args=TrainingArguments("out")).train()
        """
    )
    assert lines(settled(found, "tuning").decided)[:2] == [(7, 7), (6, 6)]

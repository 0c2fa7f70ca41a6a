"""Library objects, instances, functions and imports."""

from __future__ import annotations

import pytest

from tests.readers.python.reading import call, callees, program, shown, value
from vramlint.values import Call, Scalar, Table


@pytest.mark.parametrize(
    ("head", "callee"),
    [
        ("from transformers import TrainingArguments", "TrainingArguments"),
        ("from transformers import TrainingArguments as TA", "TA"),
        ("import transformers", "transformers.TrainingArguments"),
        ("import transformers as hf", "hf.TrainingArguments"),
        ("from transformers import *", "TrainingArguments"),
        ("import transformers\nArgs = transformers.TrainingArguments", "Args"),
        ("def f():\n    from transformers import TrainingArguments\n    return TrainingArguments", "f()"),
        ("import transformers", "getattr(transformers, 'TrainingArguments')"),
    ],
)
def test_callee_is_qualified(head: str, callee: str) -> None:
    assert callees(program(f"{head}\n{callee}(bf16=True)"))[-1] == "transformers.TrainingArguments"


def test_relative_and_submodule_imports() -> None:
    found = program(
        "from .utils import load\nfrom . import data\nimport torch.nn as nn\nimport torch.optim\nnn.Linear(1)"
    )
    assert found.imports == (".utils.load", ".data", "torch.nn", "torch.optim")
    assert callees(found) == ["torch.nn.Linear"]


def test_methods_of_values_and_attribute_assignments() -> None:
    text = """
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
        args = TrainingArguments(fp16=False)
        model = AutoModelForCausalLM.from_pretrained("gpt2").to("cuda")
        model.gradient_checkpointing_enable()
        model.config.use_cache = False
        args.fp16 = True
        setattr(args, "bf16", False)
        trainer = Trainer(model=model, args=args)
        trainer.train()
    """
    found = program(text)
    enable = call(found, ".gradient_checkpointing_enable")
    assert isinstance(enable.receiver, Call)
    assert enable.receiver.callee == "transformers.AutoModelForCausalLM.from_pretrained"
    trainer = call(found, "transformers.Trainer")
    model, args = trainer.argument("model"), trainer.argument("args")
    assert isinstance(model, Call) and isinstance(args, Call)
    assert shown(model.argument("config.use_cache")) is False
    assert shown(args.argument("fp16")) is True
    assert shown(args.argument("bf16")) is False
    assert call(found, ".train").receiver == trainer
    assert model in found.calls


def test_attribute_of_a_library_object_is_its_keyword() -> None:
    text = """
        from transformers import AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained("gpt2", model_max_length=512)
        x = tokenizer.model_max_length
    """
    assert shown(value(text)) == 512


def test_calling_a_value() -> None:
    text = """
        from transformers import AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained("gpt2")
        def tokenize(rows):
            return tokenizer(rows["text"], max_length=256, truncation=True)
        data.map(tokenize)
    """
    found = call(program(text), ".__call__")
    assert isinstance(found.receiver, Call)
    assert shown(found.argument("max_length")) == 256


def test_subclass_of_a_library_class() -> None:
    text = """
        from transformers import Trainer
        class Base(Trainer):
            def compute_loss(self, model, inputs):
                return model(**inputs).loss
        class MyTrainer(Base):
            def __init__(self, *args, flavour=None, **kwargs):
                super().__init__(*args, **kwargs)
        MyTrainer(args=1, flavour="x").train()
    """
    found = program(text)
    trainer = call(found, "transformers.Trainer")
    assert trainer.bases == ("Base", "transformers.Trainer")
    assert shown(trainer.argument("args")) == 1
    assert ".train" in callees(found)


def test_a_subclass_that_nothing_makes_is_no_call() -> None:
    text = """
        from transformers import Trainer
        class MyTrainer(Trainer):
            def compute_loss(self, model, inputs):
                self.accelerator.backward(model(**inputs))
    """
    assert callees(program(text)) == [".backward"]


def test_instances_of_local_classes() -> None:
    text = """
        import peft
        class Config:
            rank = 8
            def __init__(self, scale=2):
                self.alpha = self.rank * scale
            @property
            def dropout(self):
                return 0.1
            @staticmethod
            def bias():
                return "none"
        class Runner:
            def __init__(self, config):
                self.config = config
            def run(self):
                c = self.config
                peft.LoraConfig(r=c.rank, lora_alpha=c.alpha, lora_dropout=c.dropout, bias=c.bias())
        Runner(Config()).run()
    """
    found = call(program(text), "peft.LoraConfig")
    assert {keyword.name: shown(keyword.value) for keyword in found.keywords} == {
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "bias": "none",
    }


def test_dataclass_instances() -> None:
    text = """
        from dataclasses import asdict, dataclass, field, replace
        @dataclass
        class Config:
            rank: int = 8
            targets: list = field(default_factory=list)
            double: int = 0
            def __post_init__(self):
                self.double = self.rank * 2
        config = replace(Config(4), targets=["q"])
        config.rank += 1
        x = asdict(config)
    """
    assert shown(value(text)) == {"rank": 5, "targets": ["q"], "double": 8}


def test_arguments_star_kwargs_and_defaults() -> None:
    text = """
        def f(a, /, b=2, *rest, c, d=4, **more):
            return [a, b, rest, c, d, more]
        x = f(1, 5, 6, 7, c=3, e=9)
    """
    assert shown(value(text)) == [1, 5, [6, 7], 3, 4, {"e": 9}]


def test_missing_parameter_is_unknown() -> None:
    text = "import a\ndef train(model, rank=8):\n    a.b(model, rank)"
    assert [shown(item) for item in call(program(text), "a.b").args] == ["? parameter model of train", 8]


def test_recursion_ends() -> None:
    assert shown(value("def f(n):\n    return f(n - 1)\nx = f(3)")) == "? result of f()"


def test_global_and_nonlocal() -> None:
    text = """
        x = 1
        def outer():
            y = 1
            def inner():
                nonlocal y
                y = 2
            inner()
            global x
            x = y + 1
        outer()
    """
    assert shown(value(text)) == 3


def test_prepare_gives_back_what_it_was_given() -> None:
    text = """
        import accelerate, torch
        accelerator = accelerate.Accelerator(mixed_precision="bf16")
        optimizer = torch.optim.AdamW([], lr=1e-3)
        model, optimizer = accelerator.prepare(torch.nn.Linear(1, 1), optimizer)
        loss = model(1).loss
        accelerator.backward(loss)
        optimizer.step()
    """
    found = program(text)
    step = call(found, ".step")
    assert isinstance(step.receiver, Call)
    assert step.receiver.callee == "torch.optim.AdamW"
    assert ".backward" in callees(found)


def test_context_managers_are_calls() -> None:
    text = "import torch\nwith torch.autocast('cuda', dtype=torch.bfloat16):\n    loss.backward()"
    found = program(text)
    assert callees(found) == ["torch.autocast", ".backward"]
    assert shown(found.calls[0].argument("dtype")) == "torch.bfloat16"


def test_inline_deepspeed_dict_keeps_key_places() -> None:
    text = 'import deepspeed\nds = {"zero_optimization": {"stage": 2}}\ndeepspeed.initialize(config=ds)'
    config = call(program(text), "deepspeed.initialize").argument("config")
    assert isinstance(config, Table)
    entry = config.entry("zero_optimization", "stage")
    assert entry is not None and entry.key_place is not None and isinstance(entry.value, Scalar)
    assert (entry.key_place.span.column, entry.value.value) == (29, 2)


def test_objects_that_hold_each_other() -> None:
    text = """
        import a
        model = a.Model()
        trainer = a.Trainer(model=model)
        model.trainer = trainer
    """
    assert callees(program(text)) == ["a.Model", "a.Trainer"]


def test_undecided_class_is_called_both_ways() -> None:
    text = """
        import a, b
        cls = a.Model if flag else b.Model
        x = cls.from_pretrained("gpt2")
    """
    found = program(text)
    assert [(made.callee, made.conditions) for made in found.calls] == [
        ("a.Model.from_pretrained", ("flag",)),
        ("b.Model.from_pretrained", ("not flag",)),
    ]


def test_what_nobody_calls_changes_no_plain_value() -> None:
    text = """
        import torch
        from torch.utils.checkpoint import checkpoint
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.saves = False
            def save(self):
                self.saves = True
            def gradient_checkpointing_enable(self):
                torch.utils.checkpoint.checkpoint(self.layer)
            def forward(self, x):
                return checkpoint(self.layer, x) if self.saves else self.layer(x)
        net = Net()
    """
    assert "torch.utils.checkpoint.checkpoint" not in callees(program(text))

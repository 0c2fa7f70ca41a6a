"""Settings that the command line may give: argparse, HfArgumentParser, fire, click, typer."""

from __future__ import annotations

import pytest

from tests.readers.python.reading import at, call, document, program, shown, value
from vramlint.readers.python import read_program
from vramlint.values import Call, Program, Scalar, Unknown

ARGPARSE = """
    import argparse
    import transformers

    def parse_args():
        parser = argparse.ArgumentParser()
        group = parser.add_argument_group("training")
        group.add_argument("-b", "--batch-size", type=int, default="8")
        parser.add_argument("--lr", type=float, default=3e-5)
        parser.add_argument("--bf16", action="store_true")
        parser.add_argument("--no-shuffle", action="store_false", dest="shuffle")
        parser.add_argument("--model", required=True)
        parser.add_argument("--deepspeed")
        parser.add_argument("--debug", type=bool, default="False")
        parser.add_argument("data")
        parser.set_defaults(lr=1e-4)
        return parser.parse_args()

    def main():
        args = parse_args()
        transformers.TrainingArguments(
            per_device_train_batch_size=args.batch_size, learning_rate=args.lr, bf16=args.bf16,
            deepspeed=args.deepspeed, debug=args.debug, model=args.model, data=args.data, shuffle=args.shuffle,
            other=args.other, guess=getattr(args, "nothing", 5),
        )

    main()
"""


def settings(found: Program) -> dict[str, object]:
    return {entry.key: shown(entry.value) for entry in found.settings}


def test_argparse() -> None:
    found = call(program(ARGPARSE), "transformers.TrainingArguments")
    assert {keyword.name: shown(keyword.value) for keyword in found.keywords} == {
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-4,
        "bf16": False,
        "deepspeed": None,
        "debug": True,
        "model": "? command line: --model is required",
        "data": "? command line: data is required",
        "shuffle": True,
        "other": "? command line: other",
        "guess": 5,
    }
    batch = found.argument("per_device_train_batch_size")
    assert isinstance(batch, Scalar)
    assert (at(ARGPARSE, batch.place), batch.via) == ('"8"', "argparse-default")
    rate = found.argument("learning_rate")
    assert isinstance(rate, Scalar)
    assert (at(ARGPARSE, rate.place), rate.via) == ("1e-4", "argparse-default")


def test_argparse_settings_and_their_places() -> None:
    found = program(ARGPARSE)
    assert settings(found)["batch_size"] == 8
    places = {entry.key: at(ARGPARSE, entry.key_place) for entry in found.settings}
    assert places["batch_size"] == '"--batch-size"'


def test_a_model_without_default_comes_from_the_command_line() -> None:
    text = """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--model_name_or_path", default=None)
        args, _ = parser.parse_known_args()
        x = args.model_name_or_path
    """
    assert shown(value(text)) == "? command line: --model_name_or_path has no default"


DATACLASSES = """
    from dataclasses import dataclass, field
    from typing import List, Optional
    import transformers
    from transformers import HfArgumentParser

    @dataclass
    class Base:
        r: int = 8

    @dataclass
    class LoraArguments(Base):
        alpha: int = 16
        targets: List[str] = field(default_factory=lambda: ["q_proj"])
        dropout: float = field(default=0.05, metadata={"help": "dropout"})
        adapter: str = field()

    @dataclass
    class TrainingArguments(transformers.TrainingArguments):
        optim: str = field(default="adamw_torch")
        cutoff: int = 512

    parser = HfArgumentParser((LoraArguments, TrainingArguments))
"""
PARSED = (
    DATACLASSES
    + """
    lora, args = parser.parse_args_into_dataclasses()
    transformers.LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=lora.targets, adapter=lora.adapter)
    transformers.Trainer(args=args, cutoff=args.cutoff, bf16=args.bf16)
"""
)


def test_dataclasses_through_hf_argument_parser() -> None:
    found = program(PARSED)
    lora = call(found, "transformers.LoraConfig")
    assert {keyword.name: shown(keyword.value) for keyword in lora.keywords} == {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj"],
        "adapter": "? command line: --adapter is required",
    }
    assert isinstance(rank := lora.argument("r"), Scalar)
    assert (rank.via, at(PARSED, rank.place)) == ("dataclass-default", "8")
    trainer = call(found, "transformers.Trainer")
    arguments = trainer.argument("args")
    assert isinstance(arguments, Call)
    assert arguments.callee == "transformers.TrainingArguments"
    assert arguments.bases == ("transformers.TrainingArguments",)
    assert arguments.from_command_line
    assert shown(arguments.argument("optim")) == "adamw_torch"
    assert at(PARSED, arguments.keywords[0].name_place) == "optim"
    assert shown(trainer.argument("cutoff")) == 512
    assert shown(trainer.argument("bf16")) == "? attribute bf16 of transformers.TrainingArguments"


def test_library_defaults_answer_for_absent_keywords() -> None:
    known = {"transformers.TrainingArguments.bf16": False}
    assert shown(call(program(PARSED, known), "transformers.Trainer").argument("bf16")) is False


def test_dataclass_settings() -> None:
    assert settings(program(PARSED)) == {
        "r": 8,
        "alpha": 16,
        "targets": ["q_proj"],
        "dropout": 0.05,
        "adapter": "? command line: --adapter is required",
        "optim": "adamw_torch",
        "cutoff": 512,
    }


def test_a_config_file_on_the_command_line_is_one_more_way_to_the_same_objects() -> None:
    text = (
        DATACLASSES
        + """
    import sys
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        lora, args = parser.parse_json_file(json_file=sys.argv[1])
    else:
        lora, args = parser.parse_args_into_dataclasses()
    transformers.Trainer(args=args, r=lora.r)
    """
    )
    found = call(program(text), "transformers.Trainer")
    assert shown(found.argument("r")) == 8
    assert shown(found.argument("args")) == "<transformers.TrainingArguments>"


def test_namespace_poured_together_still_knows_its_library_object() -> None:
    text = (
        DATACLASSES
        + """
    import argparse
    lora, args = parser.parse_args_into_dataclasses()
    all = argparse.Namespace(**vars(lora), **vars(args))
    transformers.use(all.r, all.optim, all.bf16)
    """
    )
    known = {"transformers.TrainingArguments.bf16": True}
    assert [shown(item) for item in call(program(text, known), "transformers.use").args] == [8, "adamw_torch", True]


def test_trl_parser_of_library_classes() -> None:
    text = """
        from trl import ModelConfig, SFTConfig, TrlParser
        parser = TrlParser((SFTConfig, ModelConfig))
        args, model_args = parser.parse_args_and_config()
        use(args)
    """
    found = program(text)
    assert [(made.callee, made.from_command_line) for made in found.calls] == [
        ("trl.SFTConfig", True),
        ("trl.ModelConfig", True),
    ]


def test_direct_construction_overrides_field_defaults() -> None:
    text = DATACLASSES + "    TrainingArguments(output_dir='o', optim='sgd', **{'bf16': True})\n"
    found = call(program(text), "transformers.TrainingArguments")
    assert {keyword.name: shown(keyword.value) for keyword in found.keywords} == {
        "cutoff": 512,
        "output_dir": "o",
        "optim": "sgd",
        "bf16": True,
    }
    assert not found.from_command_line
    assert found.keywords[-1].name_place is None


@pytest.mark.parametrize("run", ["fire.Fire(train)", "fire.Fire({'train': train})", "fire.Fire()"])
def test_fire(run: str) -> None:
    text = f"""
        import fire, peft
        def train(base_model, r: int = 8, targets=["q_proj"]):
            peft.LoraConfig(base_model, r=r, target_modules=targets)
        if __name__ == "__main__":
            {run}
    """
    found = call(program(text), "peft.LoraConfig")
    assert isinstance(found.args[0], Unknown)
    assert isinstance(rank := found.argument("r"), Scalar)
    assert (rank.value, rank.via, at(text, rank.place)) == (8, "function-default", "8")
    assert shown(found.argument("target_modules")) == ["q_proj"]


CLICK = """
    import click, peft
    @click.command()
    @click.option("--lora-r", "-r", default=8, type=int)
    @click.option("--fast", is_flag=True)
    @click.option("--model", required=True)
    def main(lora_r, fast, model):
        peft.LoraConfig(model, r=lora_r, fast=fast)
    if __name__ == "__main__":
        main()
"""


def test_click() -> None:
    found = call(program(CLICK), "peft.LoraConfig")
    assert isinstance(rank := found.argument("r"), Scalar)
    assert (rank.value, rank.via, at(CLICK, rank.place)) == (8, "click-default", "8")
    assert shown(found.argument("fast")) is False
    assert shown(found.args[0]) == "? command line: --model is required"


def test_typer() -> None:
    text = """
        import typer, peft
        app = typer.Typer()
        @app.command()
        def main(model: str = typer.Argument(...), r: int = typer.Option(16, "--rank")):
            peft.LoraConfig(model, r=r)
        if __name__ == "__main__":
            app()
    """
    found = call(program(text), "peft.LoraConfig")
    assert (shown(found.args[0]), shown(found.argument("r"))) == ("? command line: --model is required", 16)
    assert settings(program(text))["r"] == 16


def test_deepspeed_extends_the_parser() -> None:
    text = """
        import argparse, deepspeed
        parser = argparse.ArgumentParser()
        parser.add_argument("--steps", default=3)
        parser = deepspeed.add_config_arguments(parser)
        x = parser.parse_args().steps
    """
    assert shown(value(text)) == 3


def test_no_command_line_at_all_is_no_problem() -> None:
    found, problems = read_program(document(""), {})
    assert found is not None
    assert (found.calls, found.settings, problems) == ((), (), ())


def test_click_options_that_fall_to_keywords() -> None:
    text = """
        import click, peft
        def train(*, lora_r, fast, **others):
            peft.LoraConfig(r=lora_r, fast=fast, alpha=others["lora_alpha"])
        @click.command()
        @click.option("--lora-r", type=int, default=8)
        @click.option("--lora-alpha", type=int, default=16)
        @click.option("--fast/--slow", is_flag=True, default=True)
        def main(**kwargs):
            train(**kwargs)
        if __name__ == "__main__":
            main()
    """
    found = call(program(text), "peft.LoraConfig")
    assert [shown(found.argument(name)) for name in ("r", "alpha", "fast")] == [8, 16, True]
    assert settings(program(text))["lora_r"] == 8


def test_dtypes_know_what_they_are() -> None:
    text = """
        import torch
        storage = getattr(torch, "bfloat16")
        x = storage if storage and storage.is_floating_point else torch.float32
    """
    assert shown(value(text)) == "torch.bfloat16"

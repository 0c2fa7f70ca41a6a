"""HfArgumentParser, TrlParser and their relatives with a command line or a file of settings."""

from __future__ import annotations

import pytest

from tests.readers.python.commandline.starting import given, place_text, started, used
from tests.readers.python.reading import shown
from vramlint.values import Call, Plain, Program, Scalar

CLASSES = """
    import sys, lib
    from dataclasses import dataclass, field
    from typing import List, Optional
    import transformers
    from transformers import HfArgumentParser, TrainingArguments
    from trl import ModelConfig, SFTConfig, TrlParser

    @dataclass
    class ModelArguments:
        model_name_or_path: str = field(metadata={"aliases": ["--model"]})
        lora_r: int = 8
        dropout: Optional[float] = None
        targets: List[str] = field(default_factory=lambda: ["q_proj"])
        use_lora: bool = True
        fast: bool = field(default=False)
        size: "int | None" = None

    @dataclass
    class Arguments(transformers.TrainingArguments):
        cutoff: int = 512
        optim: str = "adamw_torch"
"""
HF = (
    CLASSES
    + """
    parser = HfArgumentParser((ModelArguments, Arguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model, args = parser.parse_json_file(json_file=sys.argv[1])
    else:
        model, args = parser.parse_args_into_dataclasses()
    lib.use(args, **vars(model))
"""
)
TRL = (
    CLASSES
    + """
    parser = TrlParser((ModelArguments, SFTConfig, ModelConfig))
    own, args, model = parser.parse_args_and_config()
    lib.use(args, model, **vars(own))
"""
)


def arguments(found: Program) -> Call:
    call = used(found).args[0]
    assert isinstance(call, Call)
    return call


def keywords(call: Call) -> dict[str, object]:
    return {item.name: shown(item.value) for item in call.keywords}


def test_fields_of_the_files_own_classes_by_their_annotations() -> None:
    line = "--model gpt2 --lora-r 16 --dropout=0.1 --targets k v --no_use_lora --fast --size 7"
    assert given(started(HF, line)) == {
        "model_name_or_path": "gpt2",
        "lora_r": 16,
        "dropout": 0.1,
        "targets": ["k", "v"],
        "use_lora": False,
        "fast": True,
        "size": 7,
    }
    assert given(started(HF, "--model_name_or_path m --fast no --use_lora 0 --size None"))["fast"] is False


def test_all_other_flags_are_the_librarys() -> None:
    line = (
        "--model m --bf16 True --tf32 --per_device_train_batch_size 4 --learning_rate 2e-5 --optim sgd "
        "--report_to none --cutoff 9 --no_ddp --lr_kwargs '{\"min\":0.1}'"
    )
    call = arguments(started(HF, line))
    assert call.callee == "transformers.TrainingArguments"
    assert call.from_command_line
    assert not call.open_keywords
    assert keywords(call) == {
        "bf16": True,
        "tf32": True,
        "per_device_train_batch_size": 4,
        "learning_rate": 2e-5,
        "optim": "sgd",
        "report_to": "none",
        "cutoff": 9,
        "ddp": False,
        "lr_kwargs": {"min": 0.1},
    }
    size = call.argument("per_device_train_batch_size")
    assert place_text(line, size) == "4"
    assert isinstance(size, Scalar)
    assert size.via == "cli"


def test_one_namespace_holds_the_fields_of_all_classes_and_the_flags_of_the_librarys() -> None:
    text = f"""{CLASSES}
    args = HfArgumentParser((ModelArguments, Arguments)).parse_args()
    lib.use(model=args.model_name_or_path, cutoff=args.cutoff, optim=args.optim, rate=args.learning_rate)
    """
    assert given(started(text, "--model gpt2 --cutoff 9 --learning_rate 2e-5")) == {
        "model": "gpt2",
        "cutoff": 9,
        "optim": "adamw_torch",
        "rate": 2e-5,
    }


def test_the_librarys_defaults_tell_the_type() -> None:
    known: dict[str, Plain] = {
        "transformers.TrainingArguments.bf16": False,
        "transformers.TrainingArguments.run_name": "x",
    }
    call = arguments(started(HF, "--model m --bf16 yes --run_name 7", known=known))
    assert (shown(call.argument("bf16")), shown(call.argument("run_name"))) == (True, "7")


def test_what_no_word_says() -> None:
    found = started(HF, "--bf16 True")
    assert given(found)["model_name_or_path"] == "? command line: --model_name_or_path is required"
    assert keywords(arguments(found)) == {"cutoff": 512, "optim": "adamw_torch", "bf16": True}


def test_a_word_that_may_be_any_flags_opens_the_librarys_class() -> None:
    assert not arguments(started(HF, "--run_name ?")).open_keywords  # it is the flag's value
    found = started(HF, "--bf16 True ?")
    assert arguments(found).open_keywords
    assert given(found)["model_name_or_path"] == "? environment variable X"
    assert given(found)["lora_r"] == 8


def test_a_json_file() -> None:
    files = {
        "c.json": '{"model_name_or_path": "gpt2", "lora_r": 4, "bf16": true, "cutoff": 3, "learning_rate": "2e-5"}'
    }
    found = started(HF, "c.json", files)
    assert given(found)["lora_r"] == 4
    assert keywords(arguments(found)) == {"optim": "adamw_torch", "cutoff": 3, "bf16": True, "learning_rate": 2e-5}
    rank = used(found).argument("lora_r")
    assert isinstance(rank, Scalar)
    assert rank.place is not None
    assert (rank.via, rank.place.path, rank.place.span.column) == ("config-file", "c.json", 42)


def test_a_missing_file() -> None:
    found = started(HF, "c.json")
    assert given(found)["model_name_or_path"] == "? the file of settings c.json"
    assert arguments(found).open_keywords


def test_trl_takes_the_command_line_over_yaml_over_defaults() -> None:
    yaml = """
        model_name_or_path: from-yaml
        lora_r: 4
        learning_rate: 1e-4
        bf16: true
        attn_implementation: sdpa
    """
    found = started(TRL, "--config a.yaml --lora_r 2 --bf16 False", {"a.yaml": yaml})
    assert given(found)["model_name_or_path"] == "from-yaml"
    assert given(found)["lora_r"] == 2
    args, model = used(found).args
    assert isinstance(args, Call)
    assert isinstance(model, Call)
    assert (args.callee, model.callee) == ("trl.SFTConfig", "trl.ModelConfig")
    expected = {"learning_rate": 1e-4, "bf16": False, "attn_implementation": "sdpa"}
    assert (keywords(args), keywords(model)) == (expected, expected)


@pytest.mark.parametrize("line", ["a.yaml --lora_r=2", "a.yaml"])
def test_a_parser_that_takes_the_file_as_its_first_word(line: str) -> None:
    text = (
        CLASSES
        + """
    class OwnArgumentParser(HfArgumentParser):
        def parse(self):
            return self.parse_args_into_dataclasses()

    own, args = OwnArgumentParser((ModelArguments, SFTConfig)).parse()
    lib.use(args, **vars(own))
    """
    )
    found = started(text, line, {"a.yaml": "model_name_or_path: m\nlora_r: 4\nbf16: true\n"})
    assert given(found)["lora_r"] == (2 if "lora_r" in line else 4)
    assert keywords(arguments(found)) == {"bf16": True}


def test_a_dict() -> None:
    text = (
        CLASSES + "    lib.use(**vars(HfArgumentParser(ModelArguments).parse_dict({'model_name_or_path': 'm'})[0]))\n"
    )
    assert given(started(text, None))["model_name_or_path"] == "m"


def test_without_a_command_line_nothing_changes() -> None:
    found = started(HF, None)
    assert keywords(arguments(found)) == {"cutoff": 512, "optim": "adamw_torch"}
    assert given(found)["lora_r"] == 8


def test_left_over_words() -> None:
    text = (
        CLASSES
        + """
    parser = HfArgumentParser(ModelArguments)
    own, rest = parser.parse_args_into_dataclasses(return_remaining_strings=True)
    lib.use(rest=rest, r=own.lora_r)
    """
    )
    assert given(started(text, "--model m --other 1 --lora_r 3")) == {"rest": ["--other", "1"], "r": 3}

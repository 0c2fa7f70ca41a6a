"""transformers, TRL, PEFT, Accelerate and DeepSpeed: arguments in files, flags and calls; launchers and engines.

A GPU that runs everything is assumed: the checks of bfloat16 and TF32 ask the machine, and there is none.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import accelerate
import hjson
import peft
import transformers
import trl
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from deepspeed.runtime import config
from deepspeed.runtime.config_utils import dict_raise_error_on_duplicate_keys
from transformers import HfArgumentParser, TrainingArguments, training_args
from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

from bench.asking.commands import commands, flag, without

training_args.is_torch_bf16_gpu_available = lambda: True
training_args.is_torch_tf32_available = lambda: True

OWN = ("deepspeed", "fsdp_config", "accelerator_config")
"""Arguments that name files of the project, which are asked about by themselves."""
PARTLY = ("load_best_model_at_end",)
"""Arguments that are held against others, which may not be literals."""
BATCHES = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
NEEDED = ("output_dir", "dataset_name")
"""Flags without which the classes refuse every command line; scripts give some of them another name."""
CALLED = ("TrainingArguments", "Seq2SeqTrainingArguments", "BitsAndBytesConfig")
LIBRARIES = (trl, peft, transformers, accelerate)


def _classes(name: str, text: str) -> tuple[type, ...]:
    """The dataclasses that read a file or a command line, by what its keys, its path or its script speak of."""
    for method in ("DPO", "GRPO", "KTO", "Reward", "RLOO"):
        own = getattr(trl, f"{method}Config", None)
        if own is not None and re.search(rf"\b{method}Config\b|(?i:(?<![a-z]){method}(?![a-z]))", f"{name}\n{text}"):
            return (trl.ScriptArguments, own, trl.ModelConfig)
    if re.search(r"SFTConfig|SFTTrainer|(?i:(?<![a-z])sft(?![a-z]))", f"{name}\n{text}"):
        return (trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig)
    return (TrainingArguments,)


def _known(classes: tuple[type, ...]) -> set[str]:
    return {field.name for each in classes for field in fields(each)}


def arguments(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A YAML or JSON file of arguments, as HfArgumentParser.parse_dict reads it."""
    table = yaml.safe_load(text)
    classes = _classes(question["path"], text)
    known = _known(classes)
    table = {key: value for key, value in table.items() if key not in OWN}
    taken = {key: value for key, value in table.items() if key in known}
    HfArgumentParser(classes).parse_dict({"output_dir": "out", **taken})
    return len(taken), [key for key in table if key not in known]


def calls(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """The literal arguments of every call of a class of these libraries in a Python program, given to that class."""
    asked, unknown = 0, []
    for name, call in _calls(ast.parse(text)):
        made = next((getattr(library, name) for library in LIBRARIES if hasattr(library, name)), None)
        if not isinstance(made, type) or not (name.endswith(("Config", "Arguments")) or name in CALLED):
            continue
        known = set(inspect.signature(made).parameters)
        given = dict(_literals(call))
        unknown += [f"{name}.{key}" for key in given if key not in known]
        given = {key: value for key, value in given.items() if key in known and key not in (*OWN, *PARTLY)}
        if "output_dir" in known:
            given.setdefault("output_dir", "out")
        made(**given)
        asked += 1
    return asked, unknown


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def _literals(call: ast.Call) -> Iterator[tuple[str, Any]]:
    for keyword in call.keywords:
        try:
            value = ast.literal_eval(keyword.value)
        except ValueError:
            continue
        if keyword.arg is not None:
            yield keyword.arg, value


def cells(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A notebook's calls; what IPython alone understands is left out."""
    lines = []
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        body = "\n".join("pass" if re.match(r"\s*[!%]", line) else line for line in source.splitlines())
        try:
            ast.parse(body)
        except SyntaxError:
            continue
        lines.append(body)
    return calls(question, "\n".join(lines))


def flags(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """The commands of a shell script: their launcher's flags, then those that HfArgumentParser takes."""
    asked, unknown = 0, []
    for command in commands(text):
        words = _launched(command)
        program = next((word for word in words if word.endswith(".py")), "")
        if not program:
            continue
        folder = Path(question["path"]).parent
        there = [where / program for where in (folder, *folder.parents) if (where / program).is_file()]
        script = there[0].read_text(encoding="utf-8", errors="replace") if there else ""
        own = list(without(words[words.index(program) + 1 :], OWN))
        own += [word for name in NEEDED if f"--{name}" not in own for word in (f"--{name}", "out")]
        parser = HfArgumentParser(_classes(program, script), allow_abbrev=False)
        *_, rest = parser.parse_args_into_dataclasses(own, return_remaining_strings=True, look_for_args_file=False)
        left = [flag(word) for word in rest if word.startswith("--")]
        unknown += [name for name in left if not re.search(rf"\b{re.escape(name)}\b", script)]
        asked += 1
    return asked, unknown


def _launched(words: list[str]) -> list[str]:
    """The words behind what launches them; Accelerate's launcher is asked about its own."""
    if words[:2] != ["accelerate", "launch"]:
        return words
    parsed, _ = launch_command_parser().parse_known_args(words[2:])
    return [parsed.training_script, *parsed.training_script_args]


def machine(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A file of `accelerate config`, as `accelerate launch` loads it."""
    with tempfile.NamedTemporaryFile("w", suffix=Path(question["path"]).suffix, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        loaded = load_config_from_file(file.name)
    known = set(vars(launch_command_parser().parse_args(["script.py"])))
    sections = (loaded.fsdp_config, loaded.deepspeed_config)
    return 1, [key for section in sections for key in section if key not in known and f"fsdp_{key}" not in known]


class _Model:
    """What `auto` asks of a model."""

    class config:  # noqa: N801
        hidden_size = 1024


class _Read(dict[str, object]):
    """A table that notes which of its keys are asked for."""

    names: ClassVar[set[str]] = set()

    def get(self, key: str, default: object = None) -> object:
        self.names.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> object:
        self.names.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.names.add(str(key))
        return super().__contains__(key)


def engine(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A DeepSpeed configuration: its `auto` filled in by the Trainer, then read by DeepSpeed.

    The ranks are as many as the three batch sizes of the file ask for, where it gives all of them.
    """
    table = hjson.loads(text, object_pairs_hook=dict_raise_error_on_duplicate_keys)
    every, batch, accumulation = (table.get(name) for name in BATCHES)
    whole = all(isinstance(number, int) for number in (every, batch, accumulation))
    config.dist.get_rank = lambda *_: 0
    config.dist.get_world_size = lambda *_: max(1, every // (batch * accumulation)) if whole else 1
    filled = HfTrainerDeepSpeedConfig(json.loads(json.dumps(table)))
    taken = TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=batch if isinstance(batch, int) else 1,
        gradient_accumulation_steps=accumulation if isinstance(accumulation, int) else 1,
    )
    filled.trainer_config_process(taken)
    filled.mismatches.clear()
    filled.trainer_config_finalize(taken, _Model(), 100)
    final = {key: value if key in BATCHES else filled.config[key] for key, value in table.items()}
    final |= {key: filled.config[key] for key in BATCHES if final.get(key) == "auto"}
    _Read.names.clear()
    config.DeepSpeedConfig(_Read(final))
    return 1, [name for name in table if name not in _Read.names]


KINDS = {
    "arguments": arguments,
    "calls": calls,
    "cells": cells,
    "flags": flags,
    "machine": machine,
    "engine": engine,
}

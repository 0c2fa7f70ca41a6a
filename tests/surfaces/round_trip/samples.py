"""Of every vocabulary the files that take its keys, and how they are read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.surfaces.round_trip import programs
from tests.surfaces.round_trip.rendering import Data, Style, as_arguments, as_json, as_python, as_yaml, finished
from vramlint.facts import Fact, Link, Remark
from vramlint.readers.json import read_json
from vramlint.readers.python import read_program
from vramlint.readers.shell import read_shell
from vramlint.readers.yaml import read_yaml
from vramlint.surfaces import program_sheet
from vramlint.surfaces.accelerate_config import accelerate_sheet
from vramlint.surfaces.deepspeed import deepspeed_facts, deepspeed_sheet
from vramlint.surfaces.fsdp_config import fsdp_sheet, trainer_facts
from vramlint.surfaces.launch import Workload, launches
from vramlint.surfaces.launch.flags import arguments_table
from vramlint.surfaces.training_arguments import training_arguments_sheet
from vramlint.text import Document, Place
from vramlint.values import Table

Facts = tuple[Fact, ...]


@dataclass(frozen=True)
class Sample:
    """A kind of file that takes keys of one vocabulary."""

    path: str
    write: Callable[[Data, Style], str]
    """The file with some keys."""
    read: Callable[[Document], Facts]
    base: Data = field(default_factory=dict)
    """Keys that make it such a file."""
    anchor: str = ""
    """How the call that makes the run begins."""
    without: frozenset[str] = frozenset()
    """Keys that this kind of file does not take."""
    spelled: Callable[[str], str] = str
    """How it spells a key."""
    adds: bool = True
    """Keys that it does not have can be added."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Other files of the run."""

    def documents(self, document: Document) -> dict[str, Document]:
        """The files of the run."""
        return {path: Document.of(path, text) for path, text in self.beside.items()} | {document.path: document}

    def place(self, document: Document) -> Place | None:
        """The call that makes the run."""
        if not self.anchor:
            return None
        start = document.text.index(self.anchor)
        depth, at = 0, start
        while True:
            depth += {"(": 1, ")": -1}.get(document.text[at], 0)
            at += 1
            if depth == 0 and document.text[at - 1] == ")":
                return Place(document.path, document.span(start, at))


def _root(document: Document) -> Table:
    read = read_json if document.path.endswith(".json") else read_yaml
    root = read(document).root
    assert isinstance(root, Table), document.text
    return root


def _program(document: Document) -> Facts:
    program, problems = read_program(document, {})
    assert program is not None, (problems, document.text)
    sheet = program_sheet(program)
    facts = {fact.name: fact for fact in sheet.facts}
    for name, table in sheet.tables:
        found: Sequence[Fact | Remark | Link | None] = ()
        if name == "deepspeed":
            found = deepspeed_facts(table, via="")[0]
        if name == "fsdp":
            found = tuple(trainer_facts(table, facts.get("fsdp"), inline=True))
        for fact in found:
            if isinstance(fact, Fact):
                facts[fact.name] = fact
    return tuple(facts.values())


def _recipe(document: Document) -> Facts:
    root = _root(document)
    kind = "training-args-json" if document.path.endswith(".json") else "training-args-yaml"
    facts = {fact.name: fact for fact in training_arguments_sheet(document.path, root, kind).facts}
    inner = root.get("fsdp_config")
    if isinstance(inner, Table):
        for fact in trainer_facts(inner, facts.get("fsdp"), inline=False):
            if isinstance(fact, Fact):
                facts[fact.name] = fact
    return tuple(facts.values())


def _command(document: Document) -> Facts:
    shell, problems = read_shell(document)
    assert not problems
    (launch,) = launches(Workload(document.path, "", shell.commands))
    table = arguments_table(launch.invocation)
    return training_arguments_sheet(document.path, table, "training-args-cli").facts


def _launcher(document: Document) -> Facts:
    shell, problems = read_shell(document)
    assert not problems
    (launch,) = launches(Workload(document.path, "", shell.commands))
    (table,) = [table for name, table in launch.tables if name == "accelerate"]
    return accelerate_sheet(document.path, table).facts


def call(before: str, opening: str, behind: str) -> Callable[[Data, Style], str]:
    """A program in which a call gets the keys."""

    def write(data: Data, style: Style) -> str:
        body = opening.format(as_arguments(data, style)) if data else opening.format("").replace(", )", ")")
        return finished(f"{before}{body}\n{behind}", style._replace(ended=True))

    return write


def command(program: str) -> Callable[[Data, Style], str]:
    """A command with options."""

    def write(data: Data, style: Style) -> str:
        gap = "=" if style.flow else " "
        words = [_option(key, value, gap, style) for key, value in data.items()]
        join = f" \\\n{' ' * (style.indent * 2)}" if style.wide else " "
        return finished("#!/bin/bash\n" + join.join([program, *words]), style._replace(mark=False, end="\n"))

    return write


def launcher(opening: str) -> Callable[[Data, Style], str]:
    """Options of `accelerate launch` in front of the program."""
    write = command(opening)
    return lambda data, style: finished(
        f"{write(data, style._replace(trailing=False, mark=False)).rstrip()} train.py --seed 1",
        style._replace(end="\n", mark=False),
    )


def _shards_by_flag(key: str) -> bool:
    """Of FSDP's options those that say something also where they are off."""
    return key.startswith("fsdp_config.") and not key.endswith(("offload_params", "cpu_offload", "checkpointing"))


def _flag_of(key: str) -> str:
    return key.rpartition(".")[2]


def _flags(opening: str, keys: Callable[[str], bool]) -> Sample:
    from vramlint.surfaces.keys import all_rows

    without = frozenset(row.key for row in all_rows("accelerate-config") if not keys(row.key))
    return Sample("run.sh", launcher(opening), _launcher, {"num_processes": 4}, without=without, spelled=_flag_of)


def switches(program: str) -> Callable[[Data, Style], str]:
    """A command whose switches are off where they are not given."""
    write = command(program)
    return lambda data, style: write(
        {key: value for key, value in data.items() if value is not False}, style._replace(trailing=True)
    )


def _option(key: str, value: object, gap: str, style: Style) -> str:
    if "." in key:
        head, _, inner = key.partition(".")
        return f"--{head}{gap}{shlex.quote(json.dumps({inner: value}))}"
    if value is True and style.trailing:
        return f"--{key}"
    if isinstance(value, Mapping):
        return f"--{key}{gap}{shlex.quote(json.dumps(value))}"
    if isinstance(value, list):
        return f"--{key} {' '.join(shlex.quote(str(item)) for item in value)}"
    return f"--{key}{gap}{shlex.quote(str(value))}"


IMPORTS = """\
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

"""
LOADED = 'model = AutoModelForCausalLM.from_pretrained("gpt2")\n'
TRAINED = "trainer = Trainer(model=model, args=args, train_dataset=rows)\ntrainer.train()\n"
BY_DEFAULT = 'args = TrainingArguments("out")\n'
COMMON = {"output_dir": "out", "learning_rate": 0.1, "max_grad_norm": 0.5, "beta": 0.5, "lora_dropout": 0.5}
RECIPE = {**COMMON, "logging_steps": 10, "warmup_steps": 5, "report_to": "wandb"}
ACCELERATED = {"distributed_type": "MULTI_GPU", "compute_environment": "LOCAL_MACHINE", "num_machines": 1}
SHARDED = {"distributed_type": "FSDP", "compute_environment": "LOCAL_MACHINE", "fsdp_config.fsdp_version": 1}
ZERO = {"distributed_type": "DEEPSPEED", "num_processes": 4, "deepspeed_config.zero3_init_flag": False}
UNSLOTH = "from unsloth import FastLanguageModel, FastModel, FastVisionModel\nfrom trl import SFTConfig, SFTTrainer\n\n"
UNSLOTH_TRAINS = 'SFTTrainer(model=model, args=SFTConfig(output_dir="out", bf16=True), train_dataset=rows).train()\n'
LOOP = """\
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer = accelerator.prepare(model, optimizer)
for batch in loader:
    with accelerator.accumulate(model):
        accelerator.backward(model(**batch).loss)
        optimizer.step()
"""
SHARDS = """\
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType
from transformers import AutoModelForCausalLM

model = FullyShardedDataParallel(AutoModelForCausalLM.from_pretrained("gpt2"))
optimizer = torch.optim.AdamW(model.parameters())
for batch in loader:
    model(**batch).loss.backward()
    optimizer.step()
"""
MODULE = """\
class Module(L.LightningModule):
    def __init__(self):
        self.model = AutoModelForCausalLM.from_pretrained("gpt2")

"""


def _trainer(opening: str, **rest: object) -> Sample:
    return Sample("train.py", call(IMPORTS + LOADED, opening, TRAINED), _program, **rest)  # type: ignore[arg-type]


def _dictionary(before: str, opening: str) -> Callable[[Data, Style], str]:
    def write(data: Data, style: Style) -> str:
        from tests.surfaces.round_trip.rendering import nested

        return finished(f"{IMPORTS}{LOADED}{before}{opening.format(as_python(nested(data), style))}\n{TRAINED}", style)

    return write


def _section(kind: str, base: Data, keys: Callable[[str], bool]) -> tuple[Sample, ...]:
    """Accelerate's configuration with one of its sections, as YAML, as JSON."""
    from vramlint.surfaces.keys import all_rows

    without = frozenset(row.key for row in all_rows("accelerate-config") if not keys(row.key))
    return tuple(
        Sample(f"accelerate.{kind}", write, lambda document: accelerate_sheet(document.path, _root(document)).facts,
               base, without=without)
        for kind, write in (("yaml", as_yaml), ("json", as_json))
    )  # fmt: skip


def _of(*sections: str) -> Callable[[str], bool]:
    return lambda key: "." not in key or key.partition(".")[0] in sections


def _prefixed(key: str) -> str:
    return f"fsdp_{key}"


def _loader(name: str) -> Sample:
    write = call(UNSLOTH, f'model, tokenizer = {name}.from_pretrained("unsloth/Llama-3.2-1B", {{}})', UNSLOTH_TRAINS)
    return Sample("train.py", write, _program, {"fast_inference": True})


def _attached(name: str) -> Sample:
    before = f'{UNSLOTH}model, tokenizer = {name}.from_pretrained("unsloth/Llama-3.2-1B")\n'
    return Sample("train.py", call(before, f"model = {name}.get_peft_model(model, {{}})", UNSLOTH_TRAINS), _program)


_RECIPES = (Sample("run.json", as_json, _recipe, RECIPE), Sample("run.yaml", as_yaml, _recipe, RECIPE))
_DEEP = frozenset(("accelerator_config.gradient_accumulation_kwargs.sync_each_batch",))
"""Keys in tables of tables: a command line is read one table deep."""
_COMMAND = Sample("run.sh", command("python train.py"), _command, COMMON, without=_DEEP)

SAMPLES: Mapping[str, tuple[Sample, ...]] = {
    "training-arguments": (
        _trainer('args = TrainingArguments("out", {})', anchor="TrainingArguments(\"out\""),
        *_RECIPES,
        _COMMAND,
    ),
    "trl": (
        Sample(
            "train.py",
            call(IMPORTS + LOADED, 'args = SFTConfig("out", {})', "SFTTrainer(model, args=args).train()\n"),
            _program,
        ),
        *_RECIPES,
        _COMMAND,
    ),
    "trl-model": (*_RECIPES, _COMMAND),
    "from-pretrained": (
        Sample(
            "train.py",
            call(IMPORTS, 'model = AutoModelForCausalLM.from_pretrained("gpt2", {})', BY_DEFAULT + TRAINED),
            _program,
        ),
    ),
    "bitsandbytes": (
        Sample(
            "train.py",
            call(
                IMPORTS,
                "quantized = BitsAndBytesConfig({})",
                'model = AutoModelForCausalLM.from_pretrained("gpt2", quantization_config=quantized)\n'
                + BY_DEFAULT + TRAINED,
            ),
            _program,
        ),
    ),
    "lora": (
        Sample(
            "train.py",
            call(IMPORTS + LOADED, "model = get_peft_model(model, LoraConfig({}))", BY_DEFAULT + TRAINED),
            _program,
        ),
    ),
    "accelerate": (
        Sample("train.py", call(IMPORTS + LOADED, "accelerator = Accelerator({})", LOOP), _program),
    ),
    "full-state-dict": (
        Sample(
            "train.py",
            call(
                SHARDS, "config = FullStateDictConfig({})",
                "FullyShardedDataParallel.set_state_dict_type(model, StateDictType.FULL_STATE_DICT, config)\n",
            ),
            _program,
        ),
    ),
    "state-dict-options": (
        Sample(
            "train.py",
            call(
                SHARDS, "options = StateDictOptions(full_state_dict=True, {})",
                "weights = get_model_state_dict(model, options=options)\n",
            ),
            _program,
        ),
    ),
    "deepspeed": (
        Sample(
            "ds_config.json", as_json, lambda document: deepspeed_sheet(document.path, _root(document)).facts,
            {"train_micro_batch_size_per_gpu": "auto", "zero_optimization.stage": 2,
             "zero_optimization.round_robin_gradients": True},
        ),
        Sample("train.py", _dictionary("", 'args = TrainingArguments("out", deepspeed={})'), _program,
               {"steps_per_print": 10, "zero_optimization.stage": 2}, adds=False),
    ),
    "accelerate-config": (
        _flags("accelerate launch", lambda key: key in ("num_processes", "num_machines", "mixed_precision")),
        _flags("accelerate launch --use_deepspeed", lambda key: key.startswith("deepspeed_config.")),
        _flags("accelerate launch --use_fsdp", _shards_by_flag),
        *_section("top", ACCELERATED, _of("dynamo_config")),
        *_section("zero", ZERO, _of("deepspeed_config")),
        *_section("fsdp", SHARDED, _of("fsdp_config")),
        *_section("degrees", {**SHARDED, "parallelism_config.parallelism_config_tp_size": 1},
                  _of("parallelism_config")),
        *_section("megatron", {"distributed_type": "MEGATRON_LM", "num_processes": 4,
                               "megatron_lm_config.megatron_lm_tp_degree": 1},
                  lambda key: key.startswith("megatron_lm_config.")),
    ),
    "fsdp": (
        Sample("fsdp.json", as_json, lambda document: fsdp_sheet(document.path, _root(document)).facts,
               {"limit_all_gathers": True, "use_orig_params": True}),
        Sample("fsdp.json", as_json, lambda document: fsdp_sheet(document.path, _root(document)).facts,
               {"fsdp_backward_prefetch": "backward_pre", "fsdp_use_orig_params": True}, spelled=_prefixed),
    ),
    "unsloth": tuple(_loader(name) for name in ("FastLanguageModel", "FastModel", "FastVisionModel")),
    "unsloth-adapter": tuple(_attached(name) for name in ("FastLanguageModel", "FastModel", "FastVisionModel")),
    "setfit": (
        Sample(
            "train.py",
            call(
                "from setfit import SetFitModel, Trainer, TrainingArguments\n\n"
                'model = SetFitModel.from_pretrained("sentence-transformers/paraphrase-mpnet-base-v2")\n',
                "args = TrainingArguments({})",
                "Trainer(model=model, args=args, train_dataset=rows).train()\n",
            ),
            _program,
        ),
    ),
    "lightning": (
        Sample(
            "train.py",
            call(f"import lightning as L\nfrom transformers import AutoModelForCausalLM\n\n\n{MODULE}\n",
                 "trainer = L.Trainer({})", "trainer.fit(Module(), rows)\n"),
            _program,
            {"devices": 2},
        ),
    ),
    "settings": (
        Sample("train.py", programs.constants, _program, adds=False),
        Sample("train.py", programs.options, _program, adds=False),
    ),
    "loops": (
        Sample("train.py", programs.loop, _program, adds=False),
    ),
    "diffusers": (
        Sample("run.sh", switches("accelerate launch train.py"), programs.started,
               {"pretrained_model_name_or_path": "stabilityai/stable-diffusion-2-1", "train_batch_size": 4,
                "resolution": 512},
               without=frozenset(("image_size", "img_size", "height")), beside={"train.py": programs.DIFFUSION}),
    ),
}  # fmt: skip
"""By vocabulary of `vramlint.surfaces.keys`."""

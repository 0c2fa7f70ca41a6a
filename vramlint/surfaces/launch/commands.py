"""What the command line of a tool, or of a library's own script, says about the run that it starts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from itertools import takewhile
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from vramlint.facts import Candidate, Fact, Link, Origin, Recognised, Remark, Sheet, seconded
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Draft, draw, unknown
from vramlint.surfaces.flat import stated_by
from vramlint.surfaces.kinds import kind_of_table
from vramlint.surfaces.launch.clis import tool_of
from vramlint.surfaces.launch.flags import arguments_table
from vramlint.surfaces.launch.framework_programs import (
    PROGRAM,
    REMOVED,
    UNSEEN,
    WORDS,
    FrameworkProgram,
    framework_program,
)
from vramlint.surfaces.launch.launch import Launch
from vramlint.surfaces.launch.options import options_table, removed_paths
from vramlint.surfaces.training_arguments import training_arguments_sheet
from vramlint.values import Entry, Items, Scalar, Table, Value

KIND = "training-args-cli"


class Example(Struct, frozen=True):
    """One of transformers' example scripts for the Trainer."""

    objective: str
    length: tuple[str, ...]
    """Options that bound a sample, the first that is given."""
    default: int | None
    """The bound where none is given."""
    target: str = ""
    """The option that bounds a target."""


_EXAMPLES: Mapping[str, Example] = MappingProxyType(
    {
        "run_clm": Example("sft", ("block_size",), 1024),
        "run_mlm": Example("mlm", ("max_seq_length",), 1024),
        "run_plm": Example("mlm", ("max_seq_length",), 512),
        "run_glue": Example("seq-cls", ("max_seq_length", "max_length"), 128),
        "run_xnli": Example("seq-cls", ("max_seq_length",), 128),
        "run_classification": Example("seq-cls", ("max_seq_length",), 128),
        "run_ner": Example("token-cls", ("max_seq_length", "max_length"), None),
        "run_qa": Example("qa", ("max_seq_length",), 384),
        "run_seq2seq_qa": Example("seq2seq", ("max_seq_length",), 384, "max_answer_length"),
        "run_summarization": Example("seq2seq", ("max_source_length",), 1024, "max_target_length"),
        "run_translation": Example("seq2seq", ("max_source_length",), 1024, "max_target_length"),
        "run_image_classification": Example("image-cls", (), None),
    }
)
"""transformers 5.23 examples/pytorch/*/*.py, DataTrainingArguments. `run_clm` and `run_mlm` take the tokenizer's
maximum where it is smaller."""

_BY_HAND = "_no_trainer"
"""How the names of their twins without the Trainer end."""
_OF_BOTH = (
    "run_kind",
    "objective",
    "micro_batch_size",
    "eval_micro_batch_size",
    "gradient_accumulation_steps",
    "weight_decay",
    "sequence_length",
    "target_length",
)
"""Facts whose options mean the same with and without the Trainer."""

_UNSEEN = ("model", "tuning", "load_dtype", "quantization_bits")
"""What a Trainer's options leave to its script."""
_USUAL = (
    ("model_max_length", "sequence_length", "bound"),
    ("model_max_len", "sequence_length", "bound"),
    ("max_seq_length", "sequence_length", "bound"),
    ("max_seq_len", "sequence_length", "bound"),
    ("cutoff_len", "sequence_length", "bound"),
    ("block_size", "sequence_length", "bound"),
    ("bits", "quantization_bits", "count"),
    ("quant_type", "quantization_type", "text"),
    ("double_quant", "double_quantization", "flag"),
)
"""Options that scripts define themselves, which mean the same in all that have them."""
_ADAPTERS = (("q_lora", "qlora"), ("use_qlora", "qlora"), ("qlora", "qlora"), ("use_lora", "lora"))
"""Such flags, and how a run with one of them tunes; the first that is on."""
_MODEL_FACTS = ("model", "load_dtype", "trust_remote_code", "attention_implementation")


def sheet_of_command(launch: Launch) -> Sheet | None:
    """The sheet of a launch whose program is no file of the project; None where its command line says nothing known.

    Of `trl sft …` and its like, in every way in which they are started, and of transformers' example scripts. It has
    what the launchers say too; a YAML that `--config` names is a link of kind `training-args`.
    """
    path = launch.command.place.path
    framework = framework_program(launch.program, launch.invocation)
    if framework is not None and not framework.trains(launch.invocation):
        return None
    if framework is not None:
        launch = replace(launch, invocation=framework.spelled_out(launch.invocation))
        return launched(_framework_sheet(path, framework, launch), launch)
    tool = tool_of(launch.program)
    if tool is not None and tool[0] == "trl":
        table = arguments_table(launch.invocation)
        objective = tool[1].replace("_", "-")
        return launched(training_arguments_sheet(path, table, KIND, objective=objective), launch)
    name = re.sub(r"\.py$", "", posixpath.basename(launch.program.replace("\\", "/")))
    example = _EXAMPLES.get(name.removesuffix(_BY_HAND)) if launch.kind == "script" else None
    if example is None:
        return None
    made = _by_hand_sheet if name.endswith(_BY_HAND) else _example_sheet
    return launched(made(path, example, launch), launch)


def _framework_sheet(path: str, program: FrameworkProgram, launch: Launch) -> Sheet:
    """The sheet of a framework's own program; its configuration is read when the files are joined."""
    reason = f"the program of {program.framework} trains"
    trained = Fact(
        "run_kind", (Candidate("training", launch.program_place),), Origin.DERIVED, via="code", reason=reason
    )
    table = _without_places(options_table(launch.invocation, overrides=program.overrides), program.options)
    start = Entry(PROGRAM, None, Scalar(launch.program, launch.program_place, "cli"))
    words = tuple(takewhile(lambda word: not _is_option(word), launch.invocation.arguments))
    given = (Entry(WORDS, None, Items(words, launch.program_place)),) if words else ()
    gone = tuple([Scalar(path, None, "cli") for path in removed_paths(launch.invocation)])
    taken = (Entry(REMOVED, None, Items(gone)),) if gone else ()
    unseen = program.unseen(launch.invocation)
    why = (Entry(UNSEEN, None, Scalar(unseen, None, "cli")),) if unseen else ()
    table = replace(table, entries=(*table.entries, start, *given, *taken, *why))
    links = tuple(Link(program.framework, target, place) for target, place in program.files(launch.invocation))
    told = Recognised(program.framework, 1.0, f"it starts {launch.program}")
    return Sheet(path, program.framework, (trained,), links, tables=((program.framework, table),), recognised=told)


def _without_places(table: Table, options: tuple[str, ...]) -> Table:
    """The table without the places of options that name its files: words of the program, not keys."""
    entries = [replace(entry, key_place=None) if entry.key in options else entry for entry in table]
    return replace(table, entries=tuple(entries))


def _is_option(word: Value) -> bool:
    return isinstance(word, Scalar) and isinstance(word.value, str) and word.value.startswith("-")


def sheet_of_options(launch: Launch, why: str) -> Sheet | None:
    """The sheet of a launch whose program can't be read, from options that only a Trainer's command line has.

    Args:
        launch: the start of a script or module.
        why: what is wrong with the program: the project doesn't have it, or it hands its training on.
    """
    table = arguments_table(launch.invocation)
    plain = tuple(entry for entry in table if entry.key != "cutoff_len")  # in data files, LLaMA-Factory's
    kind = kind_of_table("options.yaml", replace(table, entries=plain))
    if kind is None or not kind.startswith("training-args"):
        return None
    sheet = training_arguments_sheet(launch.command.place.path, table, KIND)
    kept = [fact for fact in sheet.facts if fact.name not in ("run_kind", "objective")]
    place = launch.program_place
    trained = Fact("run_kind", (Candidate("training", place),), Origin.DERIVED, via="code", reason=why)
    loop = Fact("loop", (Candidate("trainer", place),), Origin.DERIVED, via="code", reason=why)
    draft = Draft()
    draft.take((trained, loop, *kept))
    for key, name, convert in _USUAL:
        entry = table.entry(key)
        draft.put(draw(name, entry.value, CONVERTERS[convert], key) if entry is not None else None)
    draft.put(_adapter(table))
    draft.take(unknown(name, why, place=place) for name in _UNSEEN)
    tables = tuple((name, _unchecked(table)) for name, table in sheet.tables)
    return launched(replace(sheet, facts=tuple(draft.facts.values()), tables=tables), launch)


def _adapter(table: Table) -> Fact | None:
    for key, tuning in _ADAPTERS:
        value = table.get(key)
        if isinstance(value, Scalar) and str(value.value).lower() in ("true", "1", "yes"):
            return Fact("tuning", (Candidate(tuning, value.place),), Origin.WRITTEN, key, "cli")
    return None


def _unchecked(table: Table) -> Table:
    """The options without the places of their names: which other ones the program's parser takes, nobody sees."""
    return replace(table, entries=tuple(replace(entry, key_place=None) for entry in table))


def launched(sheet: Sheet, launch: Launch) -> Sheet:
    """The sheet of a program with what its launcher says: facts of the machine, its configurations.

    Where the program itself states a number of GPUs, the launcher's is the one that holds if it is known; the settings
    of the allocator that a program writes itself take the place of those that it finds.
    """
    facts = {fact.name: fact for fact in sheet.facts}
    for fact in launch.facts:
        own = facts.get(fact.name)
        taken = fact.candidates and fact.name != "allocator_settings"
        if own is None or taken or own.origin is not Origin.WRITTEN:
            facts[fact.name] = seconded(fact, own)
    links = dict.fromkeys((*sheet.links, *launch.links))
    return replace(sheet, facts=tuple(facts.values()), links=tuple(links), tables=(*sheet.tables, *launch.tables))


def _example_sheet(path: str, example: Example, launch: Launch) -> Sheet:
    table = arguments_table(launch.invocation)
    draft = Draft()
    place = launch.program_place
    draft.put(Fact("loop", (Candidate("trainer", place),), Origin.DERIVED, "Trainer", "code", reason=_REASON))
    draft.put(Fact("run_kind", (Candidate("training", place),), Origin.DERIVED, via="code", reason=_REASON))
    fresh = table.entry("model_name_or_path") is None and table.entry("config_name") is not None
    objective = "pretrain" if fresh and example.objective == "sft" else example.objective
    draft.put(Fact("objective", (Candidate(objective, place),), Origin.DERIVED, via="code", reason=_REASON))
    draft.take(stated_by(table, "training-arguments", via=""))
    for stated in stated_by(table, "trl-model", via=""):
        if isinstance(stated, Remark) or stated.name in _MODEL_FACTS:
            draft.put(stated)
    if fresh:
        draft.put(draw("model", table.get("config_name") or Scalar(None), CONVERTERS["text"], "config_name"))
    _lengths(draft, example, table)
    own = _arguments_alone(table)
    arguments = training_arguments_sheet(path, own, KIND)
    tables = [item for item in arguments.tables if item[0] in ("deepspeed", "fsdp")]
    return Sheet(
        path,
        "transformers-example",
        tuple(draft.facts.values()),
        arguments.links,
        tuple(draft.remarks),
        (("training-arguments", own), *tables),
    )


_REASON = "one of transformers' example scripts"


def _by_hand_sheet(path: str, example: Example, launch: Launch) -> Sheet:
    """Of a script with a loop of its own: options that the Trainer has too, and few of them.

    transformers 5.23 examples/pytorch/*/run_*_no_trainer.py: torch's AdamW, the Accelerator's precision, no clipping.
    """
    whole = _example_sheet(path, example, launch)
    kept = {fact.name: fact for fact in whole.facts if fact.name in (*_OF_BOTH, *_MODEL_FACTS)}
    place = launch.program_place
    for name, value in (("loop", "accelerate"), ("optimizer", "adamw_torch"), ("tuning", "full"), ("max_grad_norm", 0)):
        kept[name] = Fact(name, (Candidate(value, place),), Origin.DERIVED, via="code", reason=_REASON)
    kept.setdefault("micro_batch_size", _default("micro_batch_size", 8, "per_device_train_batch_size"))
    kept.setdefault(
        "gradient_accumulation_steps", _default("gradient_accumulation_steps", 1, "gradient_accumulation_steps")
    )
    return replace(whole, facts=tuple(kept.values()), links=(), tables=())


def _arguments_alone(table: Table) -> Table:
    """The options that are TrainingArguments' in any release; the rest are the script's own."""
    from vramlint.catalog.keys import histories

    known = {history.key for name in ("TrainingArguments", "Seq2SeqTrainingArguments") for history in histories(name)}
    return Table(tuple([entry for entry in table if entry.key in known]), table.place)


def _lengths(draft: Draft, example: Example, table: Table) -> None:
    given = next((entry for key in example.length if (entry := table.entry(key)) is not None), None)
    if given is not None:
        draft.put(draw("sequence_length", given.value, CONVERTERS["bound"], given.key))
    elif example.default is not None:
        draft.put(_default("sequence_length", example.default, example.length[0]))
    target: Entry | None = table.entry(example.target) if example.target else None
    if target is not None:
        draft.put(draw("target_length", target.value, CONVERTERS["bound"], target.key))


def _default(name: str, value: int, key: str) -> Fact:
    return Fact(name, (Candidate(value),), Origin.DEFAULT, key, "library", "transformers' examples")

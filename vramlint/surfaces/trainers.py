"""Trainers of transformers, TRL and their relatives, and the arguments that they are given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from vramlint.facts import Link
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Arguments, Draft, Drawn, draw, draw_keyword, is_absent, options, stated, unknown
from vramlint.surfaces.keys import rows
from vramlint.surfaces.lineage import last, package
from vramlint.surfaces.parallelism_config import made
from vramlint.text import Place
from vramlint.values import Call, Entry, Items, Keyword, Name, Scalar, Table, Unknown, Value

_TRAINER = lazy(r"Trainer(\w*Wrapper)?$")
_NO_TRAINER = ("pytorch_lightning", "lightning", "keras", "tokenizers", "composer", "fastai")
_ARGUMENTS = lazy(
    r"TrainingArguments$|(SFT|DPO|ORPO|KTO|GRPO|RLOO|Reward|CPO|PPO|BCO|GKD|NashMD|OnlineDPO|XPO|PRM)v?2?Config$"
)

_OTHER_CONFIGS = ("ModelConfig", "DatasetMixtureConfig", "DatasetConfig")
"""Configs of TRL that hold no training arguments."""

_FILE_LOADERS = ("load", "loads", "safe_load", "full_load")
"""Functions of json, hjson and yaml that turn a file or its text into a mapping."""

_OBJECTIVES = (
    ("ORPO", "orpo"),
    ("GRPO", "grpo"),
    ("RLOO", "rloo"),
    ("DPO", "dpo"),
    ("KTO", "kto"),
    ("CPO", "cpo"),
    ("PPO", "ppo"),
    ("BCO", "bco"),
    ("GKD", "gkd"),
    ("Reward", "reward"),
    ("SFT", "sft"),
)
"""Parts of the names of other packages' trainers to what they optimise; the more special first."""


def is_trainer(call: Call) -> bool:
    """Whether a call makes a trainer: a class of that name that is given a model or arguments."""
    if package(call.callee) in {"", *_NO_TRAINER} or not _TRAINER.search(last(call.callee)):
        return False
    named = {keyword.name for keyword in call.keywords}
    return bool(named & {"model", "args", "train_dataset", "model_init"}) or len(call.args) > 1 or call.open_keywords


def is_training_arguments(call: Call) -> bool:
    """Whether a call makes TrainingArguments or a config of TRL that extends them."""
    name = last(call.callee)
    experimental = package(call.callee) == "trl" and name.endswith("Config") and name not in _OTHER_CONFIGS
    return experimental or bool(_ARGUMENTS.search(name))


def training_place(trainer: Call, calls: Sequence[Call]) -> Place | None:
    """Where the trainer's `train()` is called."""
    for call in calls:
        if call.callee == ".train" and call.receiver is not None:
            made = (option.value for option in options(call.receiver))
            if any(isinstance(item, Call) and item.place == trainer.place for item in made):
                return call.place
    return None


def trains(call: Call) -> bool:
    """Whether a call trains: `train()` of a trainer, not a model's, or the backward of a loop."""
    if last(call.callee) == "backward":
        return True
    if call.callee != ".train" or call.receiver is None:
        return False
    return any(isinstance(option.value, Call) and is_trainer(option.value) for option in options(call.receiver))


def trainers(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The trainers whose `train()` the program calls; all that it makes if it calls none."""
    made = {call.place: call for call in calls if is_trainer(call)}
    trained: dict[Place, Call] = {}
    for call in calls:
        if call.callee != ".train" or call.receiver is None:
            continue
        for option in options(call.receiver):
            if isinstance(option.value, Call) and is_trainer(option.value):
                trained[option.value.place] = option.value
    return tuple(trained.values()) or tuple(made.values())


def unseen_trainers(calls: Sequence[Call]) -> tuple[Call, ...]:
    """Stand-ins for a trainer that other code makes: TrainingArguments here, and `build_trainer(…).train()`."""
    if not any(call.callee == ".train" and _is_built(call.receiver) for call in calls):
        return ()
    made = {call.place: call for call in calls if is_training_arguments(call)}
    return tuple(
        Call("transformers.Trainer", (), (Keyword("args", call),), place, conditions=call.conditions)
        for place, call in made.items()
    )


def _is_built(value: Value | None) -> bool:
    return isinstance(value, Call) and "trainer" in last(value.callee).lower()


def objective_of_trainer(trainer: Call) -> str:
    """What a trainer of TRL optimises, empty for a plain Trainer."""
    for name in (trainer.callee, trainer.kind, *trainer.bases):
        method = re.sub(r"^Liger|Trainer$", "", last(name))
        if package(name) == "trl" and method:
            return method.lower()
        found = "reward" if method == "RM" else next((word for part, word in _OBJECTIVES if part in method), "")
        if found:
            return found
    return ""


def arguments_of(trainer: Call, calls: Sequence[Call]) -> tuple[Call | Unknown, ...]:
    """What the trainer's `args` may be.

    Where that can't be followed, the only TrainingArguments that the program makes. Empty: none given.
    """
    value = trainer.argument("args", 1)
    found: list[Call | Unknown] = []
    for option in options(value) if value is not None else ():
        match option.value:
            case Call() as call if is_training_arguments(call):
                found.append(call)
            case absent if is_absent(absent):
                continue
            case other:
                made = {call.place: call for call in calls if is_training_arguments(call)}
                if len(made) == 1:
                    found += made.values()
                else:
                    reason = other.reason if isinstance(other, Unknown) else "made by code that cannot be followed"
                    found.append(Unknown(reason, other.place))
    return tuple(found)


def argument_facts(call: Call) -> Draft:
    """Facts of TrainingArguments or a TRL config: keywords and later assignments, the latter winning."""
    draft = Draft()
    arguments = Arguments.of(call)
    trl = not last(call.callee).endswith("TrainingArguments")
    for vocabulary in ("training-arguments", "trl") if trl else ("training-arguments",):
        for row in rows(vocabulary).values():
            keyword = arguments.find(row.key)
            if keyword is not None:
                draft.put(draw_keyword(row, keyword))
            elif arguments.unseen and "." not in row.key and row.fact not in draft.facts:
                why = call.hidden or Unknown("may come through ** from a mapping that cannot be seen")
                draft.put(unknown(row.fact, why.reason, row.key, why.place or call.place))
    _data_parallel(draft, arguments)
    if call.from_command_line:
        draft.put(stated("argument_parser", vocabulary_of(call), call.place, last(call.callee)))
    draft.tables.append((vocabulary_of(call), written(call)))
    if trl:
        for name in ("padding_free",):
            keyword = arguments.find(name)
            if isinstance(keyword and keyword.value, Scalar) and keyword and keyword.value == Scalar(True):
                draft.put(stated("padding", False, keyword.name_place, name))
    return draft


_LIBRARIES = frozenset({"transformers", "trl", "peft"})
"""Packages whose classes take the keys that the catalog knows; others have classes of the same names."""


def written(call: Call) -> Table:
    """The keywords as written; without places of keys where a class of another library, or a subclass, defines them."""
    known = package(call.callee) in _LIBRARIES or "." not in call.callee
    own_keys = bool(call.bases) or call.from_command_line or not known
    entries = (Entry(item.name, None if own_keys else item.name_place, item.value) for item in call.keywords)
    return Table(tuple(entries), call.place)


def unseen_arguments(value: Unknown) -> Iterable[Drawn]:
    """Facts of a trainer whose arguments only run time knows."""
    for row in rows("training-arguments").values():
        if "." not in row.key:
            yield unknown(row.fact, f"the trainer's arguments: {value.reason}", row.key, value.place)


def vocabulary_of(call: Call) -> str:
    """The vocabulary of a call's arguments, or of those that a trainer makes when it is given none.

    `training-arguments`, or the class of a TRL config, because each has its own defaults.
    """
    name = last(call.callee)
    config = re.sub(r"^Liger|Trainer$", "", name) + "Config" if name.endswith("Trainer") else name
    if _ARGUMENTS.search(config) and config.endswith("Config"):
        return config
    return "training-arguments" if name.endswith(("TrainingArguments", "Trainer")) else name


def _data_parallel(draft: Draft, arguments: Arguments) -> None:
    deepspeed = arguments.find("deepspeed")
    if deepspeed is not None:
        deepspeed_of(draft, deepspeed.value, "deepspeed", deepspeed.name_place)
    draft.take(made(arguments.value("parallelism_config")))
    fsdp = arguments.find("fsdp_config")
    for option in options(fsdp.value) if fsdp is not None else ():
        match option.value:
            case Table() as table:
                draft.tables.append(("fsdp", table))
            case Scalar(value=str(target), place=place) if target:
                draft.links.append(Link("fsdp", target, place))


def deepspeed_of(draft: Draft, value: Value, key: str, place: Place | None) -> None:
    """The DeepSpeed configuration behind a value: a path, a dict, or a file that the script itself loads."""
    for option in options(value):
        match option.value:
            case Table() as table:
                file = _file_of(table)
                if file:
                    draft.links.append(Link("deepspeed", file, place or table.place))
                else:
                    draft.tables.append(("deepspeed", table))
            case Scalar(value=str(target), place=written) if target:
                draft.links.append(Link("deepspeed", target, written or place))
            case Call() as call:
                path = _loaded_path(call)
                if path is None:
                    draft.put(unknown("deepspeed_config", f"result of {call.callee.lstrip('.')}(…)", key, call.place))
                else:
                    deepspeed_of(draft, path, key, place)
            case Unknown() as open_value:
                draft.put(unknown("deepspeed_config", open_value.reason, key, open_value.place or place))
    draft.put(draw("deepspeed_config", value, CONVERTERS["text"], key, place) if _is_text(value) else None)


def _is_text(value: Value) -> bool:
    return all(isinstance(item.value, Scalar) for item in options(value))


def _file_of(table: Table) -> str:
    """The data file that a script loaded a table from and left as it is; empty for any other table."""
    files = set(_files(table))
    return files.pop() if len(files) == 1 else ""


def _files(value: Value) -> Iterator[str]:
    """The files of a value's parts, an empty name for what stands in code."""
    match value:
        case Table():
            for entry in value:
                yield from _files(entry.value)
        case Items():
            for item in value.values:
                yield from _files(item)
        case Scalar(place=Place(path=path), via="config-file"):
            yield path
        case _:
            yield ""


def _loaded_path(call: Call) -> Value | None:
    """The path in `json.load(open(path))` or `json.loads(Path(path).read_text())`."""
    if last(call.callee) not in _FILE_LOADERS:
        return None
    inner: Value | None = call.args[0] if call.args else None
    for _ in range(4):
        if not isinstance(inner, Call):
            break
        inner = inner.args[0] if inner.args else inner.receiver
    return inner if isinstance(inner, Scalar) and isinstance(inner.value, str) else None


def trainer_keywords(trainer: Call) -> Iterable[Drawn]:
    """Facts that older releases of TRL took as keywords of the trainer itself (`max_seq_length`, `packing`)."""
    arguments = Arguments.of(trainer)
    trl = bool(objective_of_trainer(trainer))
    for key, fact, convert in (
        ("max_seq_length", "sequence_length", "count"),
        ("max_length", "sequence_length", "count"),
        ("packing", "packing", "flag"),
        ("max_prompt_length", "prompt_length", "count"),
        ("max_completion_length", "completion_length", "count"),
    ):
        keyword = arguments.find(key)
        if keyword is not None and trl:
            yield draw(fact, keyword.value, CONVERTERS[convert], key, keyword.name_place)
    yield _kept_logits(arguments)
    if "Liger" in trainer.callee:
        yield stated("fused_loss", True, trainer.place)


def _kept_logits(arguments: Arguments) -> Drawn:
    """`compute_metrics` gets the logits of all samples, unless a function makes less of them batch by batch."""
    metrics = arguments.find("compute_metrics")
    if metrics is None or all(is_absent(option.value) for option in options(metrics.value)):
        return None
    reduces = arguments.find("preprocess_logits_for_metrics")
    return stated("evaluation_keeps_logits", reduces is None, metrics.name_place, "compute_metrics")


def model_of(trainer: Call) -> Value | None:
    """The trainer's model, or what its `model_init` returns where that is a call."""
    value = trainer.argument("model", 0)
    if value is None or value == Scalar(None, getattr(value, "place", None)):
        value = trainer.argument("model_init")
    return None if isinstance(value, Name) else value

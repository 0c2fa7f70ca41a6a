"""LightningCLI's YAML (lightning 2.6 pytorch/cli.py, pytorch/trainer/trainer.py): the Trainer, a module and its data.

`class_path` with `init_args` is an object of a class. What the Trainer is given says precision, devices, strategy and
accumulation as in a program; of module and data, whose classes are somebody's own, well-known names are read.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from vramlint.catalog.usual_keys import USUAL
from vramlint.facts import Origin
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import Draft, draw
from vramlint.surfaces.flat import NUMERIC, lenient
from vramlint.surfaces.frameworks.framework import Config, Framework, Row
from vramlint.surfaces.lightning import trainer_facts
from vramlint.surfaces.usual import Found, usual_keys
from vramlint.values import Call, Entry, Items, Keyword, Scalar, Table, Value

_SECTIONS = ("model", "data", "optimizer")
"""Sections of somebody's own classes."""
_OPTIMIZERS = ("optimizer", "model.optimizer", "model.init_args.optimizer", "model.init_args.optimizer_name")
"""Where the optimizer stands: as the command line adds it, or as an argument of the module."""
_COMMAND = "fit"
_DECIDES = "the class of the module decides"
_OPEN = ("objective", "activation_checkpointing", "attention_implementation", "micro_batch_size", "sequence_length")
_DEEPEST = 8
_ROWS = (
    Row("trainer.accumulate_grad_batches", "gradient_accumulation_steps", "count"),
    Row("trainer.num_nodes", "nodes", "count"),
)


def _complete(config: Config) -> None:
    trainer = config.value("trainer")
    section = trainer if isinstance(trainer, Table) else Table(())
    place = config.place("trainer") or next((entry.key_place for entry in config.table if entry.key_place), None)
    if place is not None:
        made = Call("lightning.pytorch.Trainer", (), _keywords(section, 0), place)
        config.draft.join(_of_file(trainer_facts(made)))
    own = Table(tuple([entry for entry in config.table if entry.key in _SECTIONS]), config.table.place)
    found = usual_keys(own, [usual for usual in USUAL if usual.fact != "optimizer"])
    for fact, items in found.items():
        _say(config, fact, items)
    _optimizer(config)
    _tuning(config)
    if config.fact("model") is None:
        module = config.text("model.class_path").rpartition(".")[2]
        config.unknown("model", f"{module or 'the module'} says which model it trains", "model.class_path")
    for fact in _OPEN:
        config.unknown(fact, _DECIDES)
    config.derive("torch_compile", False, "nothing compiles the module")


def _of_file(draft: Draft) -> Draft:
    """What was read as from a program, with the file as its source."""
    for fact in tuple(draft.facts.values()):
        if fact.via == "literal" or (fact.via == "code" and fact.origin is Origin.WRITTEN):
            draft.replace(replace(fact, via="config-file"))
    return draft


def _keywords(table: Table, depth: int) -> tuple[Keyword, ...]:
    return tuple([Keyword(entry.key, _object(entry.value, depth), entry.key_place) for entry in table])


def _object(value: Value, depth: int) -> Value:
    """A value as jsonargparse makes it: an object of a class where a table says one."""
    if depth >= _DEEPEST:
        return value
    if isinstance(value, Items):
        return Items(tuple([_object(item, depth + 1) for item in value.values]), value.place)
    named = value.get("class_path") if isinstance(value, Table) else None
    if not isinstance(value, Table) or not isinstance(named, Scalar) or named.place is None:
        return value
    given = value.get("init_args")
    arguments = given if isinstance(given, Table) else Table(())
    return Call(str(named.value), (), _keywords(arguments, depth + 1), named.place)


def _say(config: Config, fact: str, items: Iterable[Found]) -> None:
    """The first key that has a value of the right type."""
    for path, entry, usual in items:
        value = lenient(entry.value) if usual.converter in NUMERIC else entry.value
        drawn = draw(fact, value, CONVERTERS[usual.converter], path, entry.key_place)
        if drawn is not None and config.fact(fact) is None and config.say(fact, path, usual.converter):
            return


def _optimizer(config: Config) -> None:
    for key in _OPTIMIZERS:
        name = config.text(f"{key}.class_path") or config.text(key)
        if name:
            config.state("optimizer", name if "." in name else f"torch.optim.{name}", f"{key}.class_path", key)
            config.say("weight_decay", f"{key}.init_args.weight_decay", "number")
            return
    config.unknown("optimizer", _DECIDES)


def _tuning(config: Config) -> None:
    rank, bits = config.fact("lora_r"), config.fact("quantization_bits")
    four = bits is not None and bits.value == 4
    if rank is not None:
        config.state("tuning", "qlora" if four else "lora", rank.key)
    else:
        config.unknown("tuning", _DECIDES)


def _prepared(table: Table) -> Table:
    """The settings of `fit`, where a file has them for several subcommands."""
    section = table.get(_COMMAND)
    if not isinstance(section, Table):
        return table
    rest: tuple[Entry, ...] = tuple(
        [entry for entry in table if entry.key not in (_COMMAND, "validate", "test", "predict")]
    )
    return Table((*rest, *section.entries), table.place)


FRAMEWORK = Framework(
    "lightning",
    "LightningCLI",
    "lightning",
    _ROWS,
    _complete,
    prepared=_prepared,
)

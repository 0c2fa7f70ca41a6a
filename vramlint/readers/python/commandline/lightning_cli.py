"""LightningCLI: a Trainer and a module made from flags and files of settings."""

from __future__ import annotations

from vramlint.readers.python.classes import construct, library_base
from vramlint.readers.python.commandline.kinds import guess
from vramlint.readers.python.commandline.trees import JSONARGPARSE, Tree, nested_table, read_tree_words
from vramlint.readers.python.commandline.words import command_line, is_flag, spelled
from vramlint.readers.python.configs import as_config, merged
from vramlint.readers.python.datafiles import recorded
from vramlint.readers.python.machine import Arguments, Machine, Setting, Site
from vramlint.readers.python.neighbours import import_module
from vramlint.readers.python.objects import (
    BoundMethod,
    Class,
    Function,
    Given,
    LibraryObject,
    Mapping,
    Object,
    Sequence,
    Slot,
)
from vramlint.values import Name, Scalar

_CLIS = tuple(
    f"{package}.LightningCLI"
    for package in (
        "lightning.pytorch.cli",
        "lightning.pytorch.utilities.cli",
        "pytorch_lightning.cli",
        "pytorch_lightning.utilities.cli",
    )
)

_MOST_NESTED = 8


def is_lightning_cli(callee: str) -> bool:
    """Whether a class of that name is Lightning's command line."""
    return callee in _CLIS


def extends_lightning_cli(kind: Class) -> bool:
    """Whether a class of the file extends it."""
    base = library_base(kind)
    return base is not None and is_lightning_cli(base)


def run_cli(machine: Machine, site: Site) -> Object:
    """`LightningCLI(Model, Data)`: makes the module and the Trainer, and fits one with the other."""
    made = recorded(machine, site.of(Name(_CLIS[0]))) if isinstance(site.callee, Class) else recorded(machine, site)
    words = command_line(machine, site.arguments.get("args"))
    tree = read_tree_words(machine, [], words or (), JSONARGPARSE)
    settings = as_config(nested_table(Tree({path: given for path, given in tree.given.items() if path})))
    command = next((spelled(word) for word in words or () if not is_flag(word)), "fit")
    module = _made(machine, site, _section(settings, "model"), ("model_class", 0))
    if site.arguments.get("datamodule_class", 1) is not None or _section(settings, "data").state:
        _made(machine, site, _section(settings, "data"), ("datamodule_class", 1))
    trainer = _trainer(machine, site, _section(settings, "trainer"), unseen=tree.hidden is not None)
    run = site.arguments.get("run")
    if command == "fit" and not (isinstance(run, Scalar) and run.value is False):
        machine.emit(LibraryObject(".fit", (module,), (), site.place, trainer))
    machine.bind(made, "trainer", trainer, site.place)
    machine.bind(made, "model", module, site.place)
    return made


def _section(settings: Object, name: str) -> Mapping:
    slot = settings.state.get(name) if isinstance(settings, Mapping) else None
    return slot.value if isinstance(slot, Slot) and isinstance(slot.value, Mapping) else Mapping({})


def _trainer(machine: Machine, site: Site, section: Mapping, *, unseen: bool) -> LibraryObject:
    defaults = site.arguments.get("trainer_defaults")
    table = merged(defaults, section) if isinstance(defaults, Mapping) else section
    keywords = tuple(Given(key, _object(machine, slot.value, site, 0), slot.key_place) for key, slot in table.slots())
    return machine.emit(
        LibraryObject(
            "lightning.pytorch.Trainer", (), keywords, site.place, open=unseen or table.open, from_command_line=True
        )
    )


def _made(machine: Machine, site: Site, section: Mapping, argument: tuple[str, int]) -> Object:
    """The module, or its data: of the class that the command line is made with, or that the settings name."""
    kind = site.arguments.get(*argument)
    named = section.state.get("class_path")
    if isinstance(named, Slot) and isinstance(named.value, Scalar):
        module, _, name = str(named.value.value).rpartition(".")
        imported = import_module(machine, module) if module else None
        found = imported.member(name) if imported is not None else None
        kind = next((item for item in machine.classes if item.name == name), kind)
        kind = found if isinstance(found, Class) else kind
        slot = section.state.get("init_args")
        section = slot.value if isinstance(slot, Slot) and isinstance(slot.value, Mapping) else Mapping({})
    keywords = tuple(Given(key, _object(machine, slot.value, site, 0), slot.key_place) for key, slot in section.slots())
    arguments = Arguments((), keywords, section.open)
    machine.settings += [Setting(item.name, item.name_place, item.value) for item in keywords if item.name_place]
    if isinstance(kind, Class):
        return construct(machine, kind, site.of(kind, arguments))
    if isinstance(kind, (Function, BoundMethod, Name)):
        return machine.invoke(site.of(kind, arguments))
    return site.unknown("the module that the command line names")


def _object(machine: Machine, item: Object, site: Site, depth: int) -> Object:
    """A value of the settings: `class_path` with `init_args` is an object of a library's class."""
    if isinstance(item, Scalar) and isinstance(item.value, str):
        return guess(item)
    if isinstance(item, Sequence) and item.elements is not None and depth < _MOST_NESTED:
        return Sequence.of(tuple(_object(machine, one, site, depth + 1) for one in item.elements), item.place)
    if not isinstance(item, Mapping) or depth >= _MOST_NESTED:
        return item
    named = item.state.get("class_path")
    if not isinstance(named, Slot) or not isinstance(named.value, Scalar):
        return item
    arguments = item.state.get("init_args") or item.state.get("dict_kwargs")
    table = arguments.value if isinstance(arguments, Slot) and isinstance(arguments.value, Mapping) else Mapping({})
    keywords = tuple(
        Given(key, _object(machine, slot.value, site, depth + 1), slot.key_place) for key, slot in table.slots()
    )
    place = named.value.place or site.place
    return machine.emit(LibraryObject(str(named.value.value), (), keywords, place, open=table.open))

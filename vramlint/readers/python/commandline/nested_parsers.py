"""Parsers of simple_parsing and jsonargparse: options that are whole classes, dotted names, files of settings."""

from __future__ import annotations

from vramlint.readers.python.classes import construct
from vramlint.readers.python.commandline.argparsers import parser_method
from vramlint.readers.python.commandline.dataclass_parsers import parse_class
from vramlint.readers.python.commandline.kinds import ANY, kind_of
from vramlint.readers.python.commandline.trees import (
    Leaf,
    Tree,
    build,
    leaves,
    manner_of,
    nested_table,
    read_tree_words,
)
from vramlint.readers.python.commandline.words import command_line
from vramlint.readers.python.configs import merged
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import (
    Class,
    Function,
    Given,
    Instance,
    Mapping,
    Object,
    Option,
    OptionParser,
    Sequence,
    Slot,
)
from vramlint.values import Name, Scalar

_ADDING = frozenset(
    {
        "add_arguments",
        "add_class_arguments",
        "add_dataclass_arguments",
        "add_function_arguments",
        "add_subclass_arguments",
    }
)

_CLASS = "class"


def nested_parser_method(machine: Machine, method: str, parser: OptionParser, site: Site) -> Object:
    """A method of a parser that may have whole classes among its options."""
    if method == "instantiate_classes":
        return instantiated(machine, parser, site)
    added = add_nested(machine, method, parser, site)
    if added is not None:
        return added
    found = parser_method(machine, method, parser, site)
    parsed = found.elements[0] if isinstance(found, Sequence) and found.elements else found
    if method.startswith("parse") and isinstance(parsed, Instance):
        with_nested(machine, parser, parsed, site)
    return found


def add_nested(machine: Machine, method: str, parser: OptionParser, site: Site) -> Object | None:
    """`parser.add_arguments(Config, dest="config")`, `parser.add_class_arguments(Model, "model")`; None for others."""
    if method not in _ADDING:
        return None
    kind = site.arguments.get("dataclass", 0) or site.arguments.get("theclass") or site.arguments.get("function")
    destination = site.arguments.get("dest", 1) or site.arguments.get("nested_key")
    name = str(destination.value) if isinstance(destination, Scalar) and destination.value else ""
    if kind is not None:
        family = "simple_parsing" if method == "add_arguments" else "jsonargparse"
        option = Option(name, site.place, Scalar(None), (), _CLASS, None, Scalar(family), kind)
        machine.journal.put(parser.state, f"\0class {name or len(parser.state)}", option)
    return site.unknown(f"result of {method}()")


def with_nested(machine: Machine, parser: OptionParser, made: Instance, site: Site) -> None:
    """Put what classes and dotted options become into the namespace."""
    for option in parser.state.values():
        if isinstance(option, Option) and option.action == _CLASS and option.kind is not None:
            _nested(machine, option, made, site)
    dotted = {name: value for name, value in made.state.items() if "." in name}
    if not dotted:
        return
    table = nested_table(Tree({name: Given(name, value) for name, value in dotted.items()}))
    for name, slot in table.slots():
        for full in [full for full in dotted if full.startswith(f"{name}.")]:
            del made.state[full]
        before = made.state.get(name)
        value = slot.value
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = merged(before, value)
        made.state[name] = with_attributes(value)


def with_attributes(item: Object) -> Object:
    """Nested tables whose keys are attributes."""
    if not isinstance(item, Mapping):
        return item
    state = {
        key: Slot(slot.key_place, with_attributes(slot.value), slot.key) if isinstance(slot, Slot) else slot
        for key, slot in item.state.items()
    }
    return Mapping(state, item.place, item.origin, attributes=True)


def _nested(machine: Machine, option: Option, made: Instance, site: Site) -> None:
    family = str(option.constant.value) if isinstance(option.constant, Scalar) else ""
    manner = manner_of(family)
    words = command_line(machine, site.arguments.get("args", 0))
    kind = option.kind
    prefix = f"{option.name}." if manner.dotted and option.name else ""
    if isinstance(kind, Class) and kind.all_fields():
        if words is None:
            value = parse_class(machine, kind, site.of(kind, Arguments()))
        else:
            tree = read_tree_words(machine, leaves(machine, kind, prefix), words, manner)
            value = build(machine, kind, tree, site, prefix)
    else:
        value = _settings_of(machine, kind, prefix, site)
    if option.name:
        machine.journal.put(made.state, option.name, value)
    elif isinstance(value, Instance):
        made.state.update(value.state)


def _settings_of(machine: Machine, kind: Object | None, prefix: str, site: Site) -> Object:
    """The parameters of a function or of a class's constructor as nested settings."""
    initialise = kind.member("__init__") if isinstance(kind, Class) else kind
    words = command_line(machine, site.arguments.get("args", 0)) or ()
    found: list[Leaf] = []
    table = Mapping({}, site.place, attributes=True)
    if isinstance(initialise, Function):
        for item in (*initialise.node.params.params, *initialise.node.params.kwonly_params):
            name = item.name.value
            if name == "self":
                continue
            annotation = item.annotation.annotation if item.annotation else None
            found.append(Leaf(f"{prefix}{name}", name, ANY if annotation is None else kind_of(annotation)))
            if name in initialise.defaults:
                table.state[name] = Slot(machine.place(item.name), initialise.defaults[name])
    elif not isinstance(kind, (Name, Class)):
        return site.unknown("settings of a class")
    tree = read_tree_words(machine, found, words, manner_of("jsonargparse"))
    for path, given in tree.given.items():
        if path.startswith(prefix) and "." not in path.removeprefix(prefix):
            table.state[path.removeprefix(prefix)] = Slot(given.name_place, given.value)
    return table


def instantiated(machine: Machine, parser: OptionParser, site: Site) -> Object:
    """`parser.instantiate_classes(cfg)`: the settings with objects in place of those of classes."""
    config = site.first()
    if not isinstance(config, Instance):
        return site.unknown("objects that a parser makes")
    made = Instance(None, site.place, dict(config.state))
    for option in parser.state.values():
        if not isinstance(option, Option) or option.action != _CLASS or option.name not in made.state:
            continue
        held = made.state[option.name]
        if isinstance(held, Mapping) and option.kind is not None:
            keywords = tuple(Given(key, slot.value, slot.key_place) for key, slot in held.slots())
            arguments = Arguments((), keywords, held.open)
            target = option.kind
            made.state[option.name] = (
                construct(machine, target, site.of(target, arguments))
                if isinstance(target, Class)
                else machine.invoke(site.of(target, arguments))
            )
    return made

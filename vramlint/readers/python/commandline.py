"""Command-line parsers: argparse, HfArgumentParser and its relatives, fire and the like."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from vramlint.readers.python.classes import construct, relabel, required, setting_default
from vramlint.readers.python.commands import command_default
from vramlint.readers.python.machine import Arguments, Machine, Setting, Site
from vramlint.readers.python.objects import (
    Class,
    DataclassParser,
    Function,
    Given,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    Option,
    OptionParser,
    Sequence,
)
from vramlint.values import Name, Plain, Scalar, Unknown

_VIA = "argparse-default"

_CONVERSIONS: MappingProxyType[str, Callable[[str], Plain]] = MappingProxyType(
    {"int": int, "float": float, "bool": bool, "str": str}
)
"""What argparse does to a default that is text. `type=bool` makes True of every text but the empty one."""

_FLAGS = MappingProxyType({"store_true": False, "store_false": True, "count": None, "append": None})


def new_parser(_: Machine, site: Site) -> Object:
    """`argparse.ArgumentParser(...)`, with the options of its parents."""
    parents = site.arguments.get("parents")
    parser = OptionParser({}, site.place)
    if isinstance(parents, Sequence) and parents.elements:
        for parent in parents.elements:
            if isinstance(parent, OptionParser):
                parser.state.update(parent.state)
    return parser


def new_dataclass_parser(_: Machine, site: Site) -> Object:
    """`HfArgumentParser((A, B))`, `TrlParser(...)`."""
    given = site.arguments.get("dataclass_types", 0)
    classes = given.elements if isinstance(given, Sequence) else ((given,) if given is not None else ())
    return DataclassParser(classes or (), OptionParser({}, site.place), site.place)


def parser_method(machine: Machine, method: str, parser: OptionParser, site: Site) -> Object:
    """A method of an argparse parser or of one of its groups."""
    match method:
        case "add_argument":
            _add_argument(machine, parser, site)
        case "add_argument_group" | "add_mutually_exclusive_group" | "add_subparsers" | "add_parser":
            return parser  # groups and subcommands: all options count as the program's
        case "set_defaults":
            for given in site.arguments.keywords:
                option = Option(given.name, given.name_place, relabel(given.value, _VIA))
                machine.journal.put(parser.state, given.name, option)
        case "parse_args":
            return namespace(machine, parser, site)
        case "parse_known_args":
            return Sequence.of((namespace(machine, parser, site), Sequence.of(())), site.place)
        case "get_default":
            name = site.arguments.get("dest", 0)
            found = parser.state.get(str(name.value)) if isinstance(name, Scalar) else None
            return found.default if isinstance(found, Option) else site.unknown("default of an argument")
    return site.unknown(f"result of {method}()")


def namespace(machine: Machine, parser: OptionParser, site: Site) -> Instance:
    """The parsed arguments with nothing given on the command line."""
    options = [option for option in parser.state.values() if isinstance(option, Option)]
    machine.settings += [Setting(option.name, option.name_place, option.default) for option in options]
    return Instance(None, site.place, {option.name: option.default for option in options})


def _add_argument(machine: Machine, parser: OptionParser, site: Site) -> None:
    arguments = site.arguments
    names = [item for item in arguments.positional if isinstance(item, Scalar) and isinstance(item.value, str)]
    if not names:
        return
    long = [item for item in names if str(item.value).startswith("--")]
    chosen = (long or names)[0]
    positional = not str(chosen.value).startswith("-")
    destination = arguments.get("dest")
    name = str(destination.value) if isinstance(destination, Scalar) else str(chosen.value).lstrip("-")
    name = name if positional else name.replace("-", "_")
    option = Option(name, chosen.place, _default(arguments, name, site, chosen, positional=positional))
    machine.journal.put(parser.state, name, option)


def _default(arguments: Arguments, name: str, site: Site, chosen: Scalar, *, positional: bool) -> Object:
    must = arguments.get("required")
    nargs = arguments.get("nargs")
    optional = isinstance(nargs, Scalar) and nargs.value in ("?", "*")
    if (positional and not optional) or (isinstance(must, Scalar) and must.value is True):
        reason = f"command line: {chosen.value} is required"
        return Unknown(reason, chosen.place or site.place)
    default = arguments.get("default")
    if default is not None:
        return setting_default(name, _converted(relabel(default, _VIA), arguments.get("type")), chosen.place)
    action = arguments.get("action")
    if isinstance(action, Scalar) and action.value in _FLAGS:
        return Scalar(_FLAGS[str(action.value)], action.place, _VIA)
    if arguments.open:
        return Unknown(f"command line: {name}", site.place)
    return setting_default(name, Scalar(None, None, _VIA), chosen.place)


def _converted(default: Object, kind: Object | None) -> Object:
    if not (isinstance(default, Scalar) and isinstance(default.value, str) and isinstance(kind, Name)):
        return default
    convert = _CONVERSIONS.get(kind.qualified)
    if convert is None or convert is str:
        return default
    try:
        return Scalar(convert(default.value), default.place, _VIA)
    except ValueError:
        return Unknown("an argparse default that its type rejects", default.place)


def dataclass_parser_method(machine: Machine, method: str, parser: DataclassParser, site: Site) -> Object:
    """A method of HfArgumentParser or a relative."""
    if not method.startswith("parse"):
        return parser_method(machine, method, parser.options, site)
    if method == "parse_args":
        return _flat_namespace(machine, parser, site)
    parsed = _parsed(machine, parser, site)
    if method == "parse" and len(parsed) == 1:  # alignment-handbook's parser unpacks a single one
        return parsed[0]
    rest = site.arguments.get("return_remaining_strings")
    if isinstance(rest, Scalar) and rest.value:
        parsed = (*parsed, Sequence.of(()))
    return Sequence.of(parsed, site.place)


def _parsed(machine: Machine, parser: DataclassParser, site: Site) -> tuple[Object, ...]:
    """The parser's dataclasses; the same objects for every way of parsing, since only one of them is taken."""
    if parser.parsed:
        for item in parser.parsed:
            if isinstance(item, LibraryObject):
                item.conditions = ()
        return parser.parsed
    parser.parsed = tuple(parse_class(machine, kind, site.of(kind, Arguments())) for kind in parser.classes)
    return parser.parsed


def _flat_namespace(machine: Machine, parser: DataclassParser, site: Site) -> Instance:
    made = namespace(machine, parser.options, site)
    for item in _parsed(machine, parser, site):
        if isinstance(item, Instance):
            made.state.update(item.state)
    return made


def parse_class(machine: Machine, kind: Object, site: Site) -> Object:
    """A dataclass as the command line builds it when nothing is given there."""
    if isinstance(kind, Class):
        made = construct(machine, kind, site, from_command_line=True)
        for entry in kind.all_fields():
            machine.settings.append(Setting(entry.name, entry.name_place, _field_value(made, entry.name)))
        return made
    if isinstance(kind, Name):
        return machine.emit(LibraryObject(kind.qualified, (), (), site.place, from_command_line=True))
    return site.unknown("a dataclass of the command line")


def _field_value(made: Object, name: str) -> Object:
    if isinstance(made, LibraryObject):
        return made.argument(name) or Unknown(f"field {name}")
    return made.state.get(name, Unknown(f"field {name}")) if isinstance(made, Instance) else Unknown(f"field {name}")


def command_line_interface(machine: Machine, site: Site) -> Object:
    """`tyro.cli(Config)`, `simple_parsing.parse(Config)`: one class, or a function with its defaults."""
    target = site.arguments.get("config_class", 0) or site.arguments.get("f")
    if isinstance(target, Function):
        return run_command(machine, target, site)
    return (
        site.unknown("command line") if target is None else parse_class(machine, target, site.of(target, Arguments()))
    )


def run_target(machine: Machine, site: Site) -> Object:
    """`fire.Fire(target)`, `typer.run(target)`: every function that the command line may start."""
    target = site.arguments.get("component", 0)
    targets: tuple[Object, ...] = () if target is None else (target,)
    if isinstance(target, Mapping):
        targets = tuple(slot.value for _, slot in target.slots())
    elif isinstance(target, Sequence):
        targets = target.elements or ()
    for item in targets:
        if isinstance(item, Function):
            run_command(machine, item, site)
        elif isinstance(item, Class):
            construct(machine, item, site.of(item, Arguments()))
    return site.unknown("result of a command")


def run_command(machine: Machine, function: Function, site: Site) -> Object:
    """Call a function with its defaults; what has none must come from the command line."""
    note_settings(machine, function)
    parameters = (
        *function.node.params.posonly_params,
        *function.node.params.params,
        *function.node.params.kwonly_params,
    )
    missing = tuple(
        Given(parameter.name.value, required(parameter.name.value, machine.place(parameter.name)))
        for parameter in parameters
        if parameter.name.value not in function.defaults and command_default(function, parameter.name.value) is None
    )
    return machine.invoke(site.of(function, Arguments((), missing)))


def note_settings(machine: Machine, function: Function) -> None:
    """Record a command's parameters as settings of the program."""
    parameters = (
        *function.node.params.posonly_params,
        *function.node.params.params,
        *function.node.params.kwonly_params,
    )
    for parameter in parameters:
        name = parameter.name.value
        default = command_default(function, name) or function.defaults.get(name)
        value = default or required(name, machine.place(parameter.name))
        machine.settings.append(Setting(name, machine.place(parameter.name), value))


def is_dataclass_parser(callee: str) -> bool:
    """Whether a class of that name builds dataclasses from the command line."""
    last = callee.rpartition(".")[2]
    return last in {"TrlParser", "HfArgumentParser"} or (
        last.endswith("ArgumentParser") and not callee.startswith(("argparse.", "configargparse."))
    )

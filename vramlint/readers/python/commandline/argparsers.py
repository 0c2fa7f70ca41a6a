"""argparse and configargparse: options as they are added, and the namespace that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType

from msgspec.structs import replace

from vramlint.readers.python.classes import library_base, relabel, setting_default
from vramlint.readers.python.commandline.given import STRUCTURE, from_command_line
from vramlint.readers.python.commandline.words import command_line
from vramlint.readers.python.machine import Arguments, Machine, Setting, Site
from vramlint.readers.python.objects import (
    BoundMethod,
    Class,
    Function,
    Instance,
    LibraryObject,
    Object,
    Option,
    OptionParser,
    Sequence,
    decorator_name,
)
from vramlint.values import Name, Plain, Scalar, Unknown

_VIA = "argparse-default"

_CONVERSIONS: MappingProxyType[str, Callable[[str], Plain]] = MappingProxyType(
    {"int": int, "float": float, "bool": bool, "str": str}
)
"""What argparse does to a default that is text. `type=bool` makes True of every text but the empty one."""

_FLAGS = MappingProxyType({"store_true": False, "store_false": True, "count": None, "append": None})

_ACTIONS = MappingProxyType({"argparse.BooleanOptionalAction": "boolean", "BooleanOptionalAction": "boolean"})

_NO_OPTION = frozenset({"help", "version"})

_PARSERS_WORDS = """
    argparse.ArgumentParser configargparse.ArgumentParser configargparse.ArgParser configargparse.Parser
    jsonargparse.ArgumentParser simple_parsing.ArgumentParser colossalai.get_default_parser
    colossalai.legacy.get_default_parser
"""
PARSERS = frozenset(_PARSERS_WORDS.split())


def new_parser(machine: Machine, site: Site) -> Object:
    """`argparse.ArgumentParser(...)`, with the options of its parents."""
    del machine
    parents = site.arguments.get("parents")
    fixed = {given.name: given.value for given in site.arguments.keywords}
    parser = OptionParser({}, site.place, fixed=fixed)
    _adopt(parser, parents)
    return parser


def _adopt(parser: OptionParser, parents: Object | None) -> None:
    if isinstance(parents, Sequence) and parents.elements:
        for parent in parents.elements:
            if isinstance(parent, OptionParser):
                parser.state.update(parent.state)


def is_parser_class(kind: Class) -> bool:
    """Whether a class of the file extends argparse's parser."""
    return library_base(kind) in PARSERS


def new_own_parser(machine: Machine, kind: Class, site: Site) -> Object:
    """A parser of a class that the file defines over argparse's."""
    parser = new_parser(machine, site)
    initialise = kind.member("__init__")
    if isinstance(initialise, Function):
        machine.invoke(site.of(BoundMethod(initialise, parser)))
    return parser


def parser_method(machine: Machine, method: str, parser: OptionParser, site: Site) -> Object:
    """A method of an argparse parser or of one of its groups."""
    match method:
        case "add_argument" | "add" | "add_arg":
            _add_argument(machine, parser, site)
        case "add_argument_group" | "add_mutually_exclusive_group" | "add_subparsers":
            return _grouped(parser, method, site)
        case "add_parser":
            return _subparser(machine, parser, site)
        case "set_defaults":
            _set_defaults(machine, parser, site)
        case "parse_args" | "parse_intermixed_args" | "parse":
            return namespace(machine, parser, site)[0]
        case "parse_known_args" | "parse_known_intermixed_args":
            return Sequence.of(namespace(machine, parser, site), site.place)
        case "get_default":
            name = site.arguments.get("dest", 0)
            found = parser.state.get(str(name.value)) if isinstance(name, Scalar) else None
            return found.default if isinstance(found, Option) else site.unknown("default of an argument")
    return site.unknown(f"result of {method}()")


def _grouped(parser: OptionParser, method: str, site: Site) -> Object:
    """A group, whose options count as the parser's; or the place for subcommands."""
    destination = site.arguments.get("dest")
    if method == "add_subparsers" and isinstance(destination, Scalar):
        parser.fixed["\0command"] = destination
    return parser


def _subparser(machine: Machine, parser: OptionParser, site: Site) -> Object:
    """A subcommand's parser: without a command line all options count as the program's, so it shares the state."""
    name = site.arguments.get("name", 0)
    if not isinstance(name, Scalar):
        return parser
    command = f"{parser.command} {name.value}".strip()
    fixed = {**parser.fixed, **{given.name: given.value for given in site.arguments.keywords}}
    made = OptionParser(parser.state, site.place, command, fixed)
    others = site.arguments.get("aliases")
    names = [name, *((others.elements or ()) if isinstance(others, Sequence) else ())]
    for word in names:
        if isinstance(word, Scalar):
            option = Option("", site.place, name, action="command", command=f"{parser.command} {word.value}".strip())
            machine.journal.put(parser.state, f"\0command {option.command}", option)
    parents = site.arguments.get("parents")
    for parent in (parents.elements or ()) if isinstance(parents, Sequence) else ():
        for option in parent.state.values() if isinstance(parent, OptionParser) else ():
            if isinstance(option, Option) and option.action != "command":
                _put(machine, made, option)
    return made


def _set_defaults(machine: Machine, parser: OptionParser, site: Site) -> None:
    for given in site.arguments.keywords:
        value = relabel(given.value, _VIA)
        known = [
            (key, option)
            for key, option in parser.state.items()
            if isinstance(option, Option) and option.name == given.name and option.command == parser.command
        ]
        for key, option in known:
            default = _converted(value, option.kind)
            machine.journal.put(parser.state, key, replace(option, default=default, name_place=given.name_place))
        if not known:
            option = Option(given.name, given.name_place, value, action="none", command=parser.command)
            _put(machine, parser, option)


def _put(machine: Machine, parser: OptionParser, option: Option) -> None:
    """Add an option. One that shares its name with another has the default of the first, unless it replaces it."""
    key = option.name if not parser.command else f"{parser.command}\0{option.name}"
    before = parser.state.get(key)
    if isinstance(before, Option) and before.flags and option.flags and not set(before.flags) & set(option.flags):
        key = f"{key}\0{' '.join(option.flags)}"
        option = replace(option, default=before.default)
    machine.journal.put(parser.state, key, option)


def namespace(machine: Machine, parser: OptionParser, site: Site) -> tuple[Instance, Object]:
    """The parsed arguments and the words that are left."""
    options = [item for item in parser.state.values() if isinstance(item, Option) and item.action not in STRUCTURE]
    words = command_line(machine, site.arguments.get("args", 0))
    values = {option.name: option.default for option in options}
    rest: Object = Sequence.of(())
    if words is not None:
        given = from_command_line(machine, parser, words, site)
        values, rest = given.values, given.rest
        options = [option for option in options if option.name in values]
    machine.settings += _settings(options, values)
    into = site.arguments.get("namespace", 1)
    if isinstance(into, Instance):
        for name, value in values.items():
            machine.journal.put(into.state, name, value)
        return into, rest
    return Instance(None, site.place, dict(values)), rest


def _settings(options: Iterable[Option], values: dict[str, Object]) -> list[Setting]:
    found = {option.name: Setting(option.name, option.name_place, values[option.name]) for option in options}
    return list(found.values())


def _add_argument(machine: Machine, parser: OptionParser, site: Site) -> None:
    arguments = site.arguments
    names = [item for item in arguments.positional if isinstance(item, Scalar) and isinstance(item.value, str)]
    action = _action(arguments)
    if not names or action in _NO_OPTION:
        return
    long = [item for item in names if str(item.value).startswith("--")]
    chosen = (long or names)[0]
    positional = not str(chosen.value).startswith("-")
    destination = arguments.get("dest")
    name = str(destination.value) if isinstance(destination, Scalar) else str(chosen.value).lstrip("-")
    name = name if positional else name.replace("-", "_")
    names_file = arguments.get("is_config_file") or arguments.get("is_config_file_arg")
    if _last_part(arguments.get("action")) in _FILE_ACTIONS:
        names_file = Scalar(True)
    option = Option(
        name,
        chosen.place,
        _default(arguments, name, site, chosen, positional=positional),
        () if positional else tuple(str(item.value) for item in names),
        action,
        _arity(arguments, action),
        arguments.get("const"),
        arguments.get("type"),
        parser.command,
        isinstance(names_file, Scalar) and bool(names_file.value),
    )
    _put(machine, parser, option)


_FILE_ACTIONS = ("ActionConfigFile", "ActionYesNoConfigFile")


def _last_part(item: Object | None) -> str:
    return decorator_name(item).rpartition(".")[2] if item is not None else ""


def _action(arguments: Arguments) -> str:
    action = arguments.get("action")
    if isinstance(action, Scalar):
        return str(action.value)
    named = decorator_name(action) if isinstance(action, (Name, LibraryObject)) else ""
    return _ACTIONS.get(named, "store")


_BARE = frozenset({"store_true", "store_false", "store_const", "append_const", "count", "boolean"})


def _arity(arguments: Arguments, action: str) -> str | int | None:
    if action in _BARE:
        return 0
    given = arguments.get("nargs")
    if isinstance(given, Name):
        return (
            "..."
            if given.qualified.endswith("REMAINDER")
            else {"OPTIONAL": "?", "ZERO_OR_MORE": "*"}.get(given.qualified.rpartition(".")[2], "+")
        )
    value = given.value if isinstance(given, Scalar) else None
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None


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
        return Scalar(convert(default.value), default.place, default.via)
    except ValueError:
        return Unknown("an argparse default that its type rejects", default.place)


def relabelled(default: Object) -> Object:
    """A default as an option's."""
    return relabel(default, _VIA)


def extended_by_deepspeed(machine: Machine, site: Site) -> Object:
    """`deepspeed.add_config_arguments(parser)` gives back the parser with options of its own.

    deepspeed 0.18.2, deepspeed/__init__.py, _add_core_arguments.
    """
    parser = site.arguments.get("parser", 0)
    if not isinstance(parser, OptionParser):
        return site.unknown("parser")
    if command_line(machine) is not None:
        off, absent = Scalar(False, None, _VIA), Scalar(None, None, _VIA)
        for name, default in (("deepspeed", off), ("deepspeed_config", absent)):
            action = "store" if default is absent else "store_true"
            arity = None if default is absent else 0
            _put(machine, parser, Option(name, site.place, default, (f"--{name}",), action, arity))
    return parser

"""HfArgumentParser, TrlParser and their relatives: dataclasses built from a command line or a file."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.readers.python.classes import construct, library_base
from vramlint.readers.python.commandline.argparsers import namespace, parser_method
from vramlint.readers.python.commandline.fields import Values, own_values, parsed_words
from vramlint.readers.python.commandline.settings_files import settings_file
from vramlint.readers.python.commandline.words import Words, command_line, is_flag, part, spelled
from vramlint.readers.python.machine import Arguments, Machine, Setting, Site
from vramlint.readers.python.objects import (
    Class,
    DataclassParser,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    OptionParser,
    Sequence,
)
from vramlint.readers.python.operators import reason_of
from vramlint.values import Name, Scalar, Unknown

_SUFFIXES = (".yaml", ".yml", ".json", ".toml")

_FILE_METHODS = frozenset({"parse_json_file", "parse_yaml_file", "parse_toml_file"})
_BOTH_METHODS = frozenset({"parse_yaml_and_args", "parse_json_and_args"})


def new_dataclass_parser(machine: Machine, site: Site) -> Object:
    """`HfArgumentParser((A, B))`, `TrlParser(...)`."""
    del machine
    given = site.arguments.get("dataclass_types", 0)
    classes = given.elements if isinstance(given, Sequence) else ((given,) if given is not None else ())
    return DataclassParser(classes or (), OptionParser({}, site.place), site.place)


def is_dataclass_parser(callee: str) -> bool:
    """Whether a class of that name builds dataclasses from the command line."""
    last = callee.rpartition(".")[2]
    return last in {"TrlParser", "HfArgumentParser"} or (
        last.endswith("ArgumentParser")
        and not callee.startswith(("argparse.", "configargparse.", "simple_parsing.", "jsonargparse."))
    )


def extends_dataclass_parser(kind: Class) -> bool:
    """Whether a class of the file extends such a parser."""
    base = library_base(kind)
    return base is not None and is_dataclass_parser(base)


def dataclass_parser_method(machine: Machine, method: str, parser: DataclassParser, site: Site) -> Object:
    """A method of HfArgumentParser or a relative."""
    if not method.startswith("parse"):
        return parser_method(machine, method, parser.options, site)
    if method == "parse_args":
        return _flat_namespace(machine, parser, site)
    values = _values(machine, method, parser, site)
    if values is not None:
        values = replace(values, own=_own_names(parser))
    parsed = _parsed(machine, parser, site, values)
    if method == "parse" and len(parsed) == 1:  # alignment-handbook's parser unpacks a single one
        return parsed[0]
    rest = site.arguments.get("return_remaining_strings")
    if isinstance(rest, Scalar) and rest.value:
        parsed = (*parsed, Sequence.of(values.rest if values else ()))
    return Sequence.of(parsed, site.place)


def _values(machine: Machine, method: str, parser: DataclassParser, site: Site) -> Values | None:
    """What the command line or the method's own argument gives, None where neither is known."""
    first = site.arguments.positional[0] if site.arguments.positional else None
    if method == "parse_dict":
        table = site.arguments.get("args", 0)
        return Values.of(table) if isinstance(table, Mapping) else _hidden(machine, table, "settings")
    if method in _FILE_METHODS or method in _BOTH_METHODS:
        path = first or next((item.value for item in site.arguments.keywords if item.name.endswith("_file")), None)
        path = path or site.arguments.get("yaml_arg")
        table = None if path is None else settings_file(machine, path)
        values = Values.of(table) if table is not None else _hidden(machine, path, "the file of settings")
        if method in _BOTH_METHODS and values is not None:
            more = site.arguments.get("other_args", 1)
            words = more.elements if isinstance(more, Sequence) else None
            values = values.over(parsed_words(machine, parser, words or ()))
        return values
    explicit = site.arguments.get("args", 0)
    words = command_line(machine, explicit)
    if words is None:
        return None
    return _from_words(machine, parser, (*_beside_the_script(machine, site), *words))


def _hidden(machine: Machine, source: Object | None, what: str) -> Values | None:
    """Values of a file that can't be read; None (all defaults) where no command line is known."""
    if source is None or command_line(machine) is None:
        return None
    shown = f"{what} {source.value}" if isinstance(source, Scalar) else f"{what}: {reason_of(source)}"
    return Values({}, hidden=Unknown(shown, getattr(source, "place", None)))


def _beside_the_script(machine: Machine, site: Site) -> Words:
    """`look_for_args_file`: words in `train.args` beside `train.py` come first."""
    asked = site.arguments.get("args_filename") or site.arguments.get("look_for_args_file")
    if not isinstance(asked, Scalar) or not asked.value:
        return ()
    own = machine.source.document.path.rpartition(".")[0] + ".args"
    document = machine.files(asked.value if isinstance(asked.value, str) else own)
    return () if document is None else tuple(Scalar(word, None, "config-file") for word in document.text.split())


def _from_words(machine: Machine, parser: DataclassParser, words: Words) -> Values:
    """A file that the words name by `--config` or in front, and the flags, which go over it."""
    path, words = _config_file(parser, words)
    given = parsed_words(machine, parser, words)
    if path is None:
        return given
    table = settings_file(machine, path)
    below = Values.of(table) if table is not None else _hidden(machine, path, "the file of settings")
    return given if below is None else below.over(given)


def _own_names(parser: DataclassParser) -> frozenset[str]:
    """The fields of the file's own dataclasses."""
    kinds = (kind for kind in parser.classes if isinstance(kind, Class))
    return frozenset(entry.name for kind in kinds for entry in kind.all_fields())


def _config_file(parser: DataclassParser, words: Words) -> tuple[Object | None, Words]:
    own = _own_names(parser)
    if words and not is_flag(words[0]) and spelled(words[0]).endswith(_SUFFIXES):
        return words[0], words[1:]
    for index, word in enumerate(words):
        if "config" in own:
            break
        text = spelled(word)
        if text == "--config" and index + 1 < len(words):
            return words[index + 1], (*words[:index], *words[index + 2 :])
        if text.startswith("--config="):
            return part(word, len("--config=")), (*words[:index], *words[index + 1 :])
    return None, words


def _parsed(machine: Machine, parser: DataclassParser, site: Site, values: Values | None) -> tuple[Object, ...]:
    """The parser's dataclasses.

    Where nothing is known of the command line these are the same objects for every way of parsing, since only one
    of them is taken.
    """
    if parser.parsed and values is None:
        for item in parser.parsed:
            if isinstance(item, LibraryObject):
                item.conditions = ()
        return parser.parsed
    made = tuple(parse_class(machine, kind, site.of(kind, Arguments()), values) for kind in parser.classes)
    if values is None:
        parser.parsed = made
    return made


def _flat_namespace(machine: Machine, parser: DataclassParser, site: Site) -> Instance:
    made, _ = namespace(machine, parser.options, site)
    words = command_line(machine, site.arguments.get("args", 0))
    values = None if words is None else replace(_from_words(machine, parser, words), own=_own_names(parser))
    for item in _parsed(machine, parser, site, values):
        if isinstance(item, Instance):
            made.state.update(item.state)
        elif isinstance(item, LibraryObject):  # of a class that adds fields to TrainingArguments
            made.state.update({given.name: given.value for given in item.keywords})
    return made


def parse_class(machine: Machine, kind: Object, site: Site, values: Values | None = None) -> Object:
    """A dataclass as the command line builds it; with `values` None, as when nothing is given there."""
    if isinstance(kind, Class):
        arguments = Arguments() if values is None else own_values(machine, kind, values)
        made = construct(machine, kind, site.of(kind, arguments), from_command_line=True)
        if isinstance(made, LibraryObject) and values is not None:
            made.hidden = values.hidden
        for entry in kind.all_fields():
            machine.settings.append(Setting(entry.name, entry.name_place, _field_value(made, entry.name)))
        return made
    if isinstance(kind, Name):
        given = Arguments() if values is None else values.for_library(machine, kind.qualified)
        made = LibraryObject(kind.qualified, (), given.keywords, site.place, open=given.open, from_command_line=True)
        made.hidden = None if values is None else values.hidden
        return machine.emit(made)
    return site.unknown("a dataclass of the command line")


def _field_value(made: Object, name: str) -> Object:
    if isinstance(made, LibraryObject):
        return made.argument(name) or Unknown(f"field {name}")
    return made.state.get(name, Unknown(f"field {name}")) if isinstance(made, Instance) else Unknown(f"field {name}")

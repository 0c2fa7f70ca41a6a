"""The values of argparse's options on a command line."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from vramlint.readers.python.choices import choose, each
from vramlint.readers.python.commandline.kinds import to_bool
from vramlint.readers.python.commandline.options import Hit, Parsed, Reader, Spec
from vramlint.readers.python.commandline.settings_files import flattened, settings_file
from vramlint.readers.python.commandline.words import Words, is_loose, relocated, spelled, variants
from vramlint.readers.python.conditions import Tests
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import (
    Class,
    Function,
    Mapping,
    Object,
    Option,
    OptionParser,
    Partial,
    Sequence,
)
from vramlint.readers.python.operators import reason_of
from vramlint.text import Place
from vramlint.values import Name, Scalar, Unknown

_TYPES_WORDS = """
    int float str bool json.loads ast.literal_eval eval pathlib.Path os.path.abspath os.path.expanduser
"""
_TYPES = frozenset(_TYPES_WORDS.split())
"""Library functions that turn a word into a value; any other leaves the word."""

_LISTS = ("*", "+", "...")

STRUCTURE = ("command", "class")
"""Actions of entries that are no options: subcommands, classes whose fields are the options."""


class Given(Struct):
    """What a command line makes of a parser's options."""

    values: dict[str, Object]
    rest: Object
    names: set[str] = field(default_factory=set)
    """The options that are surely or possibly given."""


def from_command_line(machine: Machine, parser: OptionParser, words: Words, site: Site) -> Given:
    """Every option's value, the default where nothing is given, and the words that are left."""
    options = [item for item in parser.state.values() if isinstance(item, Option)]
    words = with_files_of_words(machine, parser, words)
    outcomes = [(_outcome(machine, parser, options, line, site), tests) for line, tests in variants(words)]
    return merged(outcomes)


def merged(outcomes: list[tuple[Given, Tests]]) -> Given:
    """One outcome for several possible command lines."""
    if len(outcomes) == 1:
        return outcomes[0][0]
    names = dict.fromkeys(name for given, _ in outcomes for name in given.values)
    absent = Unknown("no argument of this command")
    values = {name: choose((given.values.get(name, absent), tests) for given, tests in outcomes) for name in names}
    rest = choose((given.rest, tests) for given, tests in outcomes)
    return Given(values, rest, {name for given, _ in outcomes for name in given.names})


def with_files_of_words(machine: Machine, parser: OptionParser, words: Words) -> Words:
    """The words with those that stand in a file in place of `@file` (`fromfile_prefix_chars`)."""
    prefix = parser.fixed.get("fromfile_prefix_chars")
    if not isinstance(prefix, Scalar) or not prefix.value:
        return words
    found: list[Object] = []
    for word in words:
        text = spelled(word)
        document = machine.files(text[1:]) if text[:1] in str(prefix.value) and text[1:] else None
        if document is None:
            found.append(word)
            continue
        start = 0
        for line in document.text.splitlines(keepends=True):
            bare = line.rstrip("\r\n")
            place = Place(document.path, document.span(start, start + len(bare)))
            found.append(Scalar(bare, place, "config-file"))
            start += len(line)
    return tuple(found)


def _outcome(machine: Machine, parser: OptionParser, options: list[Option], words: Words, site: Site) -> Given:
    commands = {
        item.command: str(item.default.value)
        for item in options
        if item.action == "command" and isinstance(item.default, Scalar)
    }
    chosen, given = parser.command, Given({}, Sequence.of(()))
    loose: Unknown | None = None
    while True:
        active = [item for item in options if item.command == chosen and item.action not in STRUCTURE]
        below = [name for name in commands if name.rpartition(" ")[0] == chosen]
        parsed = _reader(parser, active, subcommands=bool(below)).read(words)
        loose = loose or parsed.loose
        _take(machine, parser, active, parsed, given, site)
        full = f"{chosen} {spelled(parsed.command)}".strip() if parsed.command is not None else ""
        if full not in commands:
            given.rest = Sequence.of(tuple(parsed.rest))
            break
        destination = parser.fixed.get("\0command")
        if isinstance(destination, Scalar) and parsed.command is not None:
            given.values[str(destination.value)] = parsed.command
        chosen = f"{chosen} {commands[full]}".strip()
        words = parsed.behind
    if loose is not None:
        hidden = Unknown(loose.reason, loose.place)
        given.values = {
            name: hidden if isinstance(value, Unknown) and name not in given.names else value
            for name, value in given.values.items()
        }
    return given


def _reader(parser: OptionParser, options: list[Option], *, subcommands: bool) -> Reader:
    abbreviates = parser.fixed.get("allow_abbrev")
    positional = sum(1 for item in options if not item.flags and item.action != "none")
    return Reader(
        [Spec(item.name, spellings(item), item.arity) for item in options if item.action != "none"],
        abbreviates=not (isinstance(abbreviates, Scalar) and abbreviates.value is False),
        command_at=positional if subcommands else None,
    )


def spellings(option: Option) -> tuple[str, ...]:
    """The flags of an option, with those that negate it."""
    if option.action != "boolean":
        return option.flags
    return (*option.flags, *(f"--no-{flag[2:]}" for flag in option.flags if flag.startswith("--")))


def _take(
    machine: Machine, parser: OptionParser, options: list[Option], parsed: Parsed, given: Given, site: Site
) -> None:
    defaults: dict[str, Object] = {}
    for option in options:
        defaults.setdefault(option.name, option.default)
    given.values |= defaults
    _from_files(machine, parser, options, parsed, given, site)
    by_flag = {flag: option for option in options for flag in spellings(option)}
    by_name = {option.name: option for option in options if not option.flags}
    for hit in parsed.hits:
        taker = by_flag.get(hit.flag) if hit.flag else by_name.get(hit.name)
        if taker is None:
            continue
        option = taker
        before = given.values.get(option.name) if option.name in given.names or "append" in option.action else None
        given.values[option.name] = value_of(machine, option, hit, before, site)
        given.names.add(option.name)


def _default_files(parser: OptionParser) -> tuple[Object, ...]:
    """`default_config_files=[…]` of configargparse and jsonargparse."""
    files = parser.fixed.get("default_config_files")
    return (files.elements or ()) if isinstance(files, Sequence) else ()


def _from_files(
    machine: Machine, parser: OptionParser, options: list[Option], parsed: Parsed, given: Given, site: Site
) -> None:
    """configargparse: values of files of settings stand between defaults and the command line."""
    named = {option.name for option in options if option.names_file}
    paths = [*_default_files(parser), *(word for hit in parsed.hits if hit.name in named for word in hit.words)]
    for path in paths:
        table = settings_file(machine, path)
        held = flattened(table) if table is not None else {}
        for option in options:
            keys = (option.name, *(flag.lstrip("-") for flag in option.flags))
            found = next((held[key] for key in keys if key in held), None)
            if found is not None:
                hit = Hit(option.name, (found.value,), option.flags[0] if option.flags else "", found.value)
                given.values[option.name] = value_of(machine, option, hit, None, site)
                given.names.add(option.name)


def value_of(machine: Machine, option: Option, hit: Hit, before: Object | None, site: Site) -> Object:
    """What an option becomes by one mention on the command line."""
    bare = hit.flag_word if hit.flag_word is not None else site.first()
    match option.action:
        case "store_true" | "store_false":
            return _bare(hit, Scalar(option.action == "store_true"), bare)
        case "boolean":
            negated = hit.flag.startswith("--no-") and hit.flag not in option.flags
            return _bare(hit, Scalar(not negated), bare)
        case "store_const" | "append_const":
            constant = option.constant if option.constant is not None else Scalar(None)
            made = relocated(constant, bare)
            return made if option.action == "store_const" else _appended(before, (made,))
        case "count":
            number = before.value if isinstance(before, Scalar) and isinstance(before.value, int) else 0
            return relocated(Scalar(number + 1), bare)
    values = _values(machine, option, hit, site)
    if option.action == "append":
        return _appended(before, (values,))
    if option.action == "extend":
        return _appended(before, (values.elements or ()) if isinstance(values, Sequence) else (values,))
    return values


def _bare(hit: Hit, value: Scalar, word: Object) -> Object:
    """A flag without value; configuration files may give it one."""
    if hit.words and isinstance(hit.words[0], Scalar):
        said = to_bool(str(hit.words[0].value))
        return relocated(Scalar(said if isinstance(said, bool) else value.value), hit.words[0])
    return Scalar(value.value, hit.flag_place, word.via if isinstance(word, Scalar) else "cli")


def _appended(before: Object | None, more: Iterable[Object]) -> Object:
    if before is None or (isinstance(before, Scalar) and before.value is None):
        before = Sequence.of(())
    if not isinstance(before, Sequence) or before.elements is None:
        return Unknown("list that the command line extends")
    return Sequence.of((*before.elements, *more), before.place)


def _values(machine: Machine, option: Option, hit: Hit, site: Site) -> Object:
    words = hit.words
    if not words and option.arity == "?":
        constant = option.constant if option.constant is not None else Scalar(None)
        return relocated(constant, hit.flag_word) if hit.flag_word is not None else constant
    listed = option.arity in _LISTS or (isinstance(option.arity, int) and option.arity > 0)
    if listed:
        doubtful = next((word for word in words if is_loose(word)), None)
        if doubtful is not None:
            return Unknown(reason_of(doubtful), getattr(doubtful, "place", None))
        single = words[0] if len(words) == 1 and isinstance(words[0], (Sequence, Mapping)) else None
        if single is not None:
            return single
        place = next((word.place for word in words if isinstance(word, Scalar)), None)
        return Sequence.of(tuple(typed(machine, word, option.kind, option.name, site) for word in words), place)
    if not words:
        return Unknown(f"command line: {hit.flag} stands without a value", hit.flag_place)
    return typed(machine, words[0], option.kind, option.name, site)


def typed(machine: Machine, word: Object, kind: Object | None, name: str, site: Site) -> Object:
    """A word through argparse's `type`."""

    def convert(one: Object) -> Object:
        if not isinstance(one, Scalar) or not isinstance(one.value, str) or kind is None:
            return one
        known = isinstance(kind, Name) and kind.qualified in _TYPES
        if not known and not isinstance(kind, (Function, Partial, Class)):
            return one
        found = machine.invoke(site.of(kind, Arguments((one,))))
        if isinstance(found, Unknown) and known:
            return Unknown(f"command line: {one.value!r} does not suit --{name}", one.place)
        return relocated(found, one)

    return each(convert, word)

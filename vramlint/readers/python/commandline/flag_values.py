"""What absl's flags are on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from vramlint.readers.python.commandline.kinds import Kind, convert, to_bool
from vramlint.readers.python.commandline.options import Reader, Spec
from vramlint.readers.python.commandline.words import Words, command_line, relocated, split_flag
from vramlint.readers.python.datafiles import find
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import Object, Option, Sequence
from vramlint.text import Place
from vramlint.values import Scalar

_KINDS = {"integer": ("int",), "float": ("float",), "bool": ("bool",), "boolean": ("bool",)}
_LISTS = ("list", "spaceseplist")

REGISTRY = "flag"
"""Under `flag NAME` the process holds the option that the program defined."""


def flag_value(machine: Machine, name: str) -> Object | None:
    """`FLAGS.name`, None for a flag that the program does not define."""
    option = machine.process.get(f"{REGISTRY} {name}")
    if not isinstance(option, Option):
        return None
    words = command_line(machine)
    if words is None or option.action.startswith("config_"):
        return option.default
    found = _given(option, _with_flag_files(machine, words))
    return option.default if found is None else found


def _with_flag_files(machine: Machine, words: Words) -> Words:
    """The words with those of `--flagfile`."""
    found: list[Object] = []
    for word in words:
        flag, value = split_flag(word)
        if flag.lstrip("-") != "flagfile" or not isinstance(value, Scalar):
            found.append(word)
            continue
        document = find(machine, str(value.value))
        start = 0
        for line in document.text.splitlines(keepends=True) if document is not None else ():
            bare = line.strip()
            if document is not None and bare and not bare.startswith("#"):
                begin = start + line.index(bare)
                place = Place(document.path, document.span(begin, begin + len(bare)))
                found.append(Scalar(bare, place, "config-file"))
            start += len(line)
    return tuple(found)


def _given(option: Option, words: Iterable[Object]) -> Object | None:
    """The last mention of a flag; absl takes one or two dashes, and `--noflag` for a truth value."""
    is_bool = option.action in ("bool", "boolean")
    names = (f"--{option.name}", f"-{option.name}")
    off = (f"--no{option.name}", f"-no{option.name}") if is_bool else ()
    spec = Spec(option.name, (*names, *off), 0 if is_bool else None)
    parsed = Reader((spec,), abbreviates=False).read(tuple(words))
    found: list[Object] = []
    for hit in parsed.hits:
        if not hit.words:
            via = hit.flag_word.via if isinstance(hit.flag_word, Scalar) else "cli"
            found.append(Scalar(hit.flag not in off, hit.flag_place, via))
        else:
            found.append(_typed(option, hit.words[0]))
    if not found:
        return None
    if option.action.startswith("multi_"):
        return Sequence.of(tuple(found))
    return found[-1]


def _typed(option: Option, word: Object) -> Object:
    action = option.action.removeprefix("multi_")
    if action in _LISTS and isinstance(word, Scalar):
        parts = str(word.value).split("," if action == "list" else None)
        return Sequence.of(tuple(relocated(Scalar(part.strip()), word) for part in parts), word.place)
    if action in ("bool", "boolean") and isinstance(word, Scalar):
        said = to_bool(str(word.value))
        return relocated(Scalar(said), word) if isinstance(said, bool) else word
    names = _KINDS.get(action)
    return convert(word, Kind(names), option.name) if names else word

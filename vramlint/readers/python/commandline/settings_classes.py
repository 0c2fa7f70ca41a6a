"""pydantic's settings classes: fields from the environment and, where the class asks for it, the command line."""

from __future__ import annotations

from vramlint.readers.python.classes import construct
from vramlint.readers.python.commandline.kinds import convert, kind_of
from vramlint.readers.python.commandline.trees import TYRO, Tree, build, leaves, read_tree_words
from vramlint.readers.python.commandline.words import command_line, relocated
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import Class, Given, LibraryObject, Mapping, Object, Slot
from vramlint.readers.python.probes import variable
from vramlint.values import Scalar


def is_settings(kind: Class) -> bool:
    """Whether a class of the file extends pydantic's BaseSettings."""
    return any(name.rpartition(".")[2] == "BaseSettings" for name in kind.base_names())


def new_settings(machine: Machine, kind: Class, site: Site, *, from_words: bool = False) -> Object:
    """`Settings()`: arguments over the command line over the environment over defaults."""
    prefix = _said(kind, "env_prefix")
    front = str(prefix.value) if isinstance(prefix, Scalar) else ""
    given: dict[str, Given] = {}
    for entry in kind.all_fields():
        found = _variable(machine, f"{front}{entry.name}")
        if found is not None:
            given[entry.name] = Given(entry.name, convert(found, kind_of(entry.annotation), entry.name))
    words = command_line(machine, site.arguments.get("cli_args") or site.arguments.get("_cli_parse_args"))
    asked = _said(kind, "cli_parse_args") or site.arguments.get("_cli_parse_args")
    if words is not None and (from_words or (isinstance(asked, Scalar) and asked.value)):
        tree = read_tree_words(machine, leaves(machine, kind), words, TYRO)
        return build(machine, kind, Tree({**given, **tree.given}, tree.hidden), site)
    own = {item.name for item in site.arguments.keywords}
    more = tuple(item for name, item in given.items() if name not in own)
    arguments = Arguments(site.arguments.positional, (*site.arguments.keywords, *more), site.arguments.open)
    return construct(machine, kind, site.of(kind, arguments))


def run_settings(machine: Machine, site: Site) -> Object:
    """`CliApp.run(Settings)`."""
    kind = site.arguments.get("model_cls", 0)
    return (
        new_settings(machine, kind, site.of(kind, Arguments()), from_words=True)
        if isinstance(kind, Class)
        else site.unknown("settings of the command line")
    )


def _variable(machine: Machine, name: str) -> Object | None:
    """An environment variable, whose case doesn't matter."""
    for spelling in dict.fromkeys((name.upper(), name, name.lower())):
        found = variable(machine, spelling)
        if found is not None and not (isinstance(found, Scalar) and found.value is None):
            return relocated(found, found) if isinstance(found, Scalar) else found
    return None


def _said(kind: Class, name: str) -> Object | None:
    """What `model_config` or the inner class `Config` says."""
    config = kind.member("model_config")
    if isinstance(config, LibraryObject):
        return config.argument(name)
    if isinstance(config, Mapping):
        slot = config.state.get(name)
        return slot.value if isinstance(slot, Slot) else None
    inner = kind.member("Config")
    return inner.member(name) if isinstance(inner, Class) else None

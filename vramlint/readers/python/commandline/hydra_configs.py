"""Hydra: a config composed of files by its defaults list, with the overrides of the command line."""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from vramlint.patterns import lazy
from vramlint.readers.python.choices import each
from vramlint.readers.python.classes import construct
from vramlint.readers.python.commandline.words import Words, command_line, is_loose, part, spelled
from vramlint.readers.python.configs import (
    as_config,
    merged,
    override_value,
    put_path,
    remove_path,
    resolved,
    with_floats,
)
from vramlint.readers.python.datafiles import find, read_tree
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import (
    OPEN,
    Class,
    Function,
    LibraryObject,
    Mapping,
    Object,
    Sequence,
    Slot,
    decorator_name,
)
from vramlint.readers.python.objects import Choice as Several
from vramlint.values import Scalar

_MOST_FILES = 64
_PACKAGE = lazy(r"^#\s*@package\s+(\S+)", re.MULTILINE)
_FLAGS = {
    "--config-name": "name",
    "-cn": "name",
    "--config-path": "path",
    "-cp": "path",
    "--config-dir": "dir",
    "-cd": "dir",
}


class Choice(NamedTuple):
    """One line of a defaults list."""

    group: str
    """The folder that the config lies in."""
    name: str
    relative: str
    """The group as written, which is the config's package below its parent's unless another is given."""
    package: str | None = None


def is_hydra_main(function: Function) -> bool:
    """Whether `@hydra.main(...)` gives the function its config."""
    return any(map(_is_main, function.decorators))


def _is_main(decorator: object) -> bool:
    """`@hydra.main(...)` or NeMo's `@hydra_runner(...)`."""
    name = decorator_name(decorator)
    return name == "hydra.main" or name.endswith(".hydra_runner")


def hydra_config(machine: Machine, function: Function, site: Site) -> Object | None:
    """The config that Hydra hands to the function, None where its files are not found."""
    decorator = next(filter(_is_main, function.decorators))
    path = name = None
    if isinstance(decorator, LibraryObject):
        path = decorator.argument("config_path") or (decorator.args[0] if decorator.args else None)
        name = decorator.argument("config_name") or (decorator.args[1] if len(decorator.args) > 1 else None)
    words = command_line(machine) or ()
    said, words = _own_flags(words)
    path, name = said.get("path", path), said.get("name", name)
    folder = str(path.value) if isinstance(path, Scalar) and path.value is not None else ""
    own = posixpath.dirname(machine.source_of(function.node).document.path)
    folders = [posixpath.join(own, folder), *([folder] if folder else [])]
    extra = said.get("dir")
    folders += [str(extra.value)] if isinstance(extra, Scalar) else []
    return composed(machine, folders, name, words, site)


def _own_flags(words: Words) -> tuple[dict[str, Object], Words]:
    said: dict[str, Object] = {}
    left: list[Object] = []
    index = 0
    while index < len(words):
        flag, equals, _ = spelled(words[index]).partition("=")
        if flag in _FLAGS and equals:
            said[_FLAGS[flag]] = part(words[index], len(flag) + 1)
        elif flag in _FLAGS and index + 1 < len(words):
            index += 1
            said[_FLAGS[flag]] = words[index]
        else:
            left.append(words[index])
        index += 1
    return said, tuple(left)


def composed(machine: Machine, folders: list[str], name: Object | None, words: Words, site: Site) -> Object | None:
    """The config of that name with its defaults and the overrides in `words`."""
    if not isinstance(name, Scalar) or not isinstance(name.value, str):
        return None
    composer = _Composer(machine, folders, words, site)
    root = composer.load(Choice("", name.value.removesuffix(".yaml"), ""), "")
    if root is None:
        return None
    for group, choice in composer.appended:
        more = composer.load(Choice(group, choice, group), "")
        root = root if more is None else merged(root, more)
    for word in words:
        _override(root, word, composer.groups)
    return resolved(machine, root)


def _override(root: Mapping, word: Object, groups: set[str]) -> None:
    if isinstance(word, Several):
        keys = {spelled(option).partition("=")[0] for option, _ in word.options}
        if len(keys) == 1:  # a sweep gives one of several values
            one = keys.pop()
            value = each(lambda option: override_value(part(option, len(one) + 1)), word)
            put_path(root, one.lstrip("+"), value, getattr(word.options[0][0], "place", None))
            return
    text = spelled(word)
    if is_loose(word):
        root.state[OPEN] = True
        return
    if text.startswith("~"):
        remove_path(root, text[1:].partition("=")[0])
        return
    key, equals, _ = text.partition("=")
    bare = key.lstrip("+").partition("@")[0]
    if not equals or key.startswith("-") or bare in groups:
        return
    put_path(root, key.lstrip("+"), override_value(part(word, len(key) + 1)), getattr(word, "place", None))


class _Composer:
    """Loads configs and what their defaults lists name."""

    def __init__(self, machine: Machine, folders: list[str], words: Words, site: Site) -> None:
        self._machine, self._folders, self._site = machine, folders, site
        self._loaded = 0
        self.groups: set[str] = set()
        """Groups that defaults lists choose from."""
        self._chosen: dict[str, str] = {}
        self.appended: list[tuple[str, str]] = []
        """Groups that the command line adds."""
        for word in words:
            key, equals, value = spelled(word).partition("=")
            if not equals or key.startswith("-") or not isinstance(word, Scalar):
                continue
            bare = key.lstrip("+")
            self._chosen[bare] = value
            if key.startswith("+") and "." not in bare and self._tree(bare, value) is not None:
                self.appended.append((bare, value))
                self.groups.add(bare)

    def load(self, choice: Choice, parent: str) -> Mapping | None:
        """A config with its defaults, under its package, which is one below that of its parent."""
        self._loaded += 1
        group = choice.group
        tree = self._tree(group, choice.name) if self._loaded <= _MOST_FILES else None
        if tree is None:
            return None
        table, header = tree
        package = _package(choice, header, parent)
        slot = table.state.pop("defaults", None)
        listed = slot.value.elements if isinstance(slot, Slot) and isinstance(slot.value, Sequence) else None
        own = _under(table, package)
        made = Mapping({}, table.place, attributes=True)
        seen_self = False
        for item in listed or ():
            if isinstance(item, Scalar) and item.value == "_self_":
                made, seen_self = merged(made, own), True
                continue
            for below in self._choices(item, group):
                more = self.load(below, package)
                made = made if more is None else merged(made, more)
        return made if seen_self else merged(made, own)

    def _choices(self, item: Object, group: str) -> list[Choice]:
        """The configs behind one line of a defaults list."""
        if isinstance(item, Scalar) and isinstance(item.value, str):
            return [self._named(item.value, group)]
        found: list[Choice] = []
        for key, slot in item.slots() if isinstance(item, Mapping) else ():
            names = slot.value.elements if isinstance(slot.value, Sequence) else (slot.value,)
            words = key.split()
            if "override" in words[:-1]:
                continue  # it replaces the choice of another line, mostly of Hydra's own groups
            where, at, wanted = words[-1].partition("@") if words else ("", "", "")
            full = _full(where, group)
            self.groups.add(full)
            chosen = self._chosen.get(full) or self._chosen.get(words[-1] if words else "")
            for name in (Scalar(chosen),) if chosen else names or ():
                if isinstance(name, Scalar) and name.value is not None:
                    found.append(Choice(full, self._filled(str(name.value)), where, wanted if at else None))
        return found

    def _named(self, text: str, group: str) -> Choice:
        """`base`, `/model/llama`, `base@pkg`: a config without a choice."""
        where, at, wanted = text.partition("@")
        folder, _, name = _full(where, group).rpartition("/")
        relative = where.rpartition("/")[0]
        return Choice(folder, self._filled(name.removesuffix(".yaml")), relative, wanted if at else None)

    def _filled(self, name: str) -> str:
        """A name in which `${group}` stands for that group's choice."""
        return re.sub(r"\$\{([\w/.]+)\}", lambda found: self._chosen.get(found[1], found[0]), name)

    def _tree(self, group: str, name: str) -> tuple[Mapping, str | None] | None:
        for folder in self._folders:
            document = find(self._machine, posixpath.join(folder, group, f"{name}.yaml"))
            if document is not None:
                found = as_config(with_floats(read_tree(document, "yaml") or Mapping({})))
                header = _PACKAGE.search(document.text[:2000])
                return (found, header[1] if header else None) if isinstance(found, Mapping) else None
        stored = _stored(self._machine, group, name, self._site)
        return None if stored is None else (stored, None)


def _full(where: str, group: str) -> str:
    """The folder of a group that a config in `group` names."""
    found = posixpath.normpath(where[1:] if where.startswith("/") else posixpath.join(group, where))
    return "" if found == "." else found


def _package(choice: Choice, header: str | None, parent: str) -> str:
    """Where a config's keys go (hydra 1.3, core/default_element.py, InputDefault._get_final_package)."""
    own = choice.relative.strip("/").replace("/", ".")
    wanted = choice.package if choice.package is not None else header if header is not None else own
    wanted = wanted.replace("_group_", own).replace("_here_", "").strip(".")
    found = f"{parent}.{wanted}" if parent and wanted else parent or wanted
    return found.rpartition("_global_")[2].strip(".")


def _under(table: Mapping, package: str) -> Mapping:
    if not package:
        return table
    made = Mapping({}, table.place, attributes=True)
    put_path(made, package, table, table.place)
    return made


def _stored(machine: Machine, group: str, name: str, site: Site) -> Mapping | None:
    """A dataclass or dict that the program put into Hydra's ConfigStore."""
    for call in reversed(machine.calls):
        if call.callee != ".store":
            continue
        given = {"name": call.argument("name"), "group": call.argument("group"), "node": call.argument("node")}
        for key, value in zip(("name", "node"), call.args, strict=False):
            given[key] = value
        wanted = given["group"]
        if not isinstance(given["name"], Scalar) or str(given["name"].value) != name:
            continue
        if (str(wanted.value) if isinstance(wanted, Scalar) else "") != group:
            continue
        node = given["node"]
        made = construct(machine, node, site.of(node, Arguments())) if isinstance(node, Class) else node
        found = None if made is None else as_config(made)
        return found if isinstance(found, Mapping) else None
    return None


def compose(machine: Machine, site: Site) -> Object:
    """`hydra.compose(config_name=…, overrides=[…])` behind `hydra.initialize(config_path=…)`."""
    folder = "."
    for call in machine.calls:
        if call.callee in ("hydra.initialize", "hydra.initialize_config_dir"):
            path = call.argument("config_path") or call.argument("config_dir") or (call.args[0] if call.args else None)
            folder = str(path.value) if isinstance(path, Scalar) else folder
    overrides = site.arguments.get("overrides", 1)
    words = overrides.elements if isinstance(overrides, Sequence) else None
    own = posixpath.dirname(machine.source.document.path)
    folders = [posixpath.join(own, folder), folder]
    found = composed(machine, folders, site.arguments.get("config_name", 0), words or (), site)
    return site.unknown("a config that Hydra composes") if found is None else found

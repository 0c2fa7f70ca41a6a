"""Nested settings by dotted flags: tyro, simple_parsing, draccus, pyrallis, jsonargparse."""

from __future__ import annotations

import libcst as cst
from msgspec import Struct

from vramlint.readers.python.choices import choose
from vramlint.readers.python.classes import construct, takes_fields
from vramlint.readers.python.commandline.kinds import ANY, Kind, convert, convert_all, kind_of
from vramlint.readers.python.commandline.options import FLAG, Hit, Reader, Spec
from vramlint.readers.python.commandline.settings_files import flattened, settings_file
from vramlint.readers.python.commandline.words import Words, variants
from vramlint.readers.python.machine import Arguments, Machine, Setting, Site
from vramlint.readers.python.objects import (
    NOT_GIVEN,
    Class,
    Field,
    Given,
    Instance,
    Mapping,
    Object,
    Slot,
)
from vramlint.values import Scalar, Unknown

_MOST_NESTED = 6
"""Dataclasses inside one another."""


class Manner(Struct, frozen=True):
    """How a family spells its flags."""

    dotted: bool = True
    """Whether flags of nested fields carry the path: `--optim.lr`."""
    config_flags: tuple[str, ...] = ()
    """Flags that name a file of settings."""


TYRO = Manner()
SIMPLE = Manner(dotted=False, config_flags=("--config_path",))
DRACCUS = Manner(config_flags=("--config_path", "--config"))
JSONARGPARSE = Manner(config_flags=("--config", "-c"))


class Leaf(Struct, frozen=True):
    """A setting that a flag can give."""

    path: str
    name: str
    kind: Kind


class Tree(Struct, frozen=True):
    """Values given by dotted path."""

    given: dict[str, Given]
    hidden: Unknown | None = None


def nested_class(machine: Machine, entry: Field, kind: Class) -> Class | None:
    """The dataclass of the file that a field holds."""
    node: cst.BaseExpression | None = entry.annotation
    if isinstance(node, cst.Subscript) and isinstance(node.slice[0].slice, cst.Index):
        node = node.slice[0].slice.value
    if isinstance(node, (cst.Name, cst.Attribute)):
        found = machine.evaluate(node, kind.scope)
        if isinstance(found, Class) and takes_fields(found):
            return found
    factory = entry.spec.factory
    if isinstance(factory, Class) and takes_fields(factory):
        return factory
    default = entry.spec.default
    return default.kind if isinstance(default, Instance) and default.kind and takes_fields(default.kind) else None


def leaves(machine: Machine, kind: Class, prefix: str = "", depth: int = 0) -> list[Leaf]:
    """All settings of a dataclass and of those in it."""
    found: list[Leaf] = []
    for entry in kind.all_fields():
        inner = nested_class(machine, entry, kind) if depth < _MOST_NESTED else None
        path = f"{prefix}{entry.name}"
        if inner is not None and inner is not kind:
            found += leaves(machine, inner, f"{path}.", depth + 1)
        else:
            found.append(Leaf(path, entry.name, kind_of(entry.annotation)))
    return found


def read_tree_words(machine: Machine, found: list[Leaf], words: Words, manner: Manner) -> Tree:
    """The values that a command line gives to settings."""
    outcomes = [(_read(machine, found, line, manner), tests) for line, tests in variants(words)]
    if len(outcomes) == 1:
        return outcomes[0][0]
    paths = dict.fromkeys(path for tree, _ in outcomes for path in tree.given)
    given = {}
    for path in paths:
        held = [(tree.given.get(path), tests) for tree, tests in outcomes]
        place = next((item.name_place for item, _ in held if item is not None), None)
        value = choose((NOT_GIVEN if item is None else item.value, tests) for item, tests in held)
        given[path] = Given(path, value, place)
    return Tree(given, next((tree.hidden for tree, _ in outcomes if tree.hidden is not None), None))


def _read(machine: Machine, found: list[Leaf], words: Words, manner: Manner) -> Tree:
    specs = [Spec(leaf.path, _flags(leaf, manner, found), _arity(leaf.kind)) for leaf in found]
    specs += [Spec("\0config", manner.config_flags)] if manner.config_flags else []
    parsed = Reader(specs, swallows=True).read(words)
    by_path = {leaf.path: leaf for leaf in found}
    given: dict[str, Given] = {}
    for hit in (hit for hit in parsed.hits if hit.name == "\0config" and hit.words):
        table = settings_file(machine, hit.words[0])
        if table is not None:
            given |= flattened(table)
    for hit in parsed.hits:
        leaf = by_path.get(hit.name)
        if leaf is not None:
            given[leaf.path] = Given(leaf.path, _value(leaf, hit), hit.flag_place)
    for hit in parsed.strangers:  # settings of a library's class, or of one that can't be seen
        path = hit.name.replace("-", "_")
        given[path] = Given(path, _stranger(hit), hit.flag_place)
    return Tree(given, parsed.loose)


def _arity(kind: Kind) -> str | None:
    return "*" if kind.many else FLAG if kind.is_flag else None


def _flags(leaf: Leaf, manner: Manner, found: list[Leaf]) -> tuple[str, ...]:
    alone = sum(other.name == leaf.name for other in found) == 1
    names = [leaf.path] if manner.dotted or not alone else [leaf.name, leaf.path]
    spelled = dict.fromkeys((*names, *(name.replace("_", "-") for name in names)))
    flags = [f"--{name}" for name in spelled]
    if leaf.kind.is_flag:
        for name in spelled:
            front, dot, last = name.rpartition(".")
            flags += [f"--{front}{dot}no-{last}", f"--no-{name}", f"--no{name}"]
    return tuple(flags)


def _value(leaf: Leaf, hit: Hit) -> Object:
    if not hit.words:
        plain = hit.flag[2:].replace("-", "_") in (leaf.path, leaf.name)
        via = hit.flag_word.via if isinstance(hit.flag_word, Scalar) else "cli"
        return Scalar(plain, hit.flag_place, via)
    if leaf.kind.many and not (len(hit.words) == 1 and _is_bracketed(hit.words[0])):
        return convert_all(hit.words, leaf.kind, leaf.path)
    return convert(hit.words[0], ANY if leaf.kind.many else leaf.kind, leaf.path)


def _is_bracketed(word: Object) -> bool:
    return isinstance(word, Scalar) and str(word.value).startswith("[")


def _stranger(hit: Hit) -> Object:
    if not hit.words:
        return Scalar(True, hit.flag_place, hit.flag_word.via if isinstance(hit.flag_word, Scalar) else "cli")
    return convert(hit.words[0], ANY) if len(hit.words) == 1 else convert_all(hit.words, ANY)


def build(machine: Machine, kind: Class, tree: Tree, site: Site, prefix: str = "") -> Object:
    """An object of a dataclass with what the tree gives; every field not given keeps its default."""
    keywords: list[Given] = []
    for entry in kind.all_fields():
        path = f"{prefix}{entry.name}"
        inner = nested_class(machine, entry, kind) if prefix.count(".") < _MOST_NESTED else None
        below = any(other.startswith(f"{path}.") for other in tree.given)
        if inner is not None and inner is not kind and (below or entry.spec.default is None):
            keywords.append(Given(entry.name, build(machine, inner, tree, site, f"{path}.")))
        elif path in tree.given:
            given = tree.given[path]
            keywords.append(Given(entry.name, _of_file(given.value, kind_of(entry.annotation)), given.name_place))
        elif tree.hidden is not None and entry.spec.default is None and entry.spec.factory is None:
            keywords.append(Given(entry.name, tree.hidden))
    made = construct(machine, kind, site.of(kind, Arguments((), tuple(keywords))), from_command_line=True)
    for entry in kind.all_fields():
        value = made.state.get(entry.name) if isinstance(made, Instance) else None
        if value is not None and not isinstance(value, Instance):
            machine.settings.append(Setting(entry.name, entry.name_place, value))
    return made


def _of_file(value: Object, kind: Kind) -> Object:
    """A file's text for a field of another kind, as `2e-5` in YAML for a float."""
    return convert(value, kind) if isinstance(value, Scalar) and kind.names and kind is not ANY else value


def nested_table(tree: Tree) -> Mapping:
    """The given values as nested dicts."""
    root = Mapping({})
    for path, given in tree.given.items():
        table = root
        *folders, last = path.split(".")
        for name in folders:
            slot = table.state.get(name)
            if not isinstance(slot, Slot) or not isinstance(slot.value, Mapping):
                slot = Slot(given.name_place, Mapping({}))
                table.state[name] = slot
            assert isinstance(slot.value, Mapping)  # noqa: S101 (made so two lines above)
            table = slot.value
        table.state[last] = Slot(given.name_place, given.value)
    return root


def manner_of(callee: str) -> Manner:
    """How the library of that name spells flags."""
    top = callee.partition(".")[0]
    return {"tyro": TYRO, "simple_parsing": SIMPLE, "jsonargparse": JSONARGPARSE}.get(top, DRACCUS)

"""What names stand for while a program is read: values that can still change, and code that can be called.

Known scalars, qualified names and unknowns are taken from `vramlint.values` as they are. Everything that a
program can change after it made it keeps its content in a plain dict (`state`), so that one journal can
undo and merge what the two sides of an undecided branch do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from vramlint.readers.python.conditions import Tests
from vramlint.readers.python.lazy import Module, Pending
from vramlint.text import Place
from vramlint.values import Name, Plain, Scalar, Unknown

if TYPE_CHECKING:
    import libcst as cst

State = dict[str, Any]


class Choice(Struct, frozen=True):
    """Several possible objects, each with the tests under which it is the one. Never nested."""

    options: tuple[tuple[Object, Tests], ...]


ITEMS = "items"
"""The key in a sequence's state under which its elements are."""


class Sequence(Struct, eq=False):
    """A list, tuple or set. `state[ITEMS]` is a tuple, a Choice of sequences or an Unknown."""

    state: State
    place: Place | None = None

    @classmethod
    def of(cls, items: tuple[Object, ...], place: Place | None = None) -> Sequence:
        """A sequence of known elements."""
        return cls({ITEMS: items}, place)

    @property
    def elements(self) -> tuple[Object, ...] | None:
        """The elements, None when a branch or a loop made them uncertain."""
        items = self.state[ITEMS]
        return items if isinstance(items, tuple) else None


class Slot(Struct, frozen=True):
    """One value of a mapping with the place of its key."""

    key_place: Place | None
    value: Object
    key: Scalar | None = None
    """The key itself where it is not its text: a number."""

    def key_object(self, text: str) -> Scalar:
        """The key that stands under `text`."""
        return Scalar(text, self.key_place, "computed") if self.key is None else self.key


OPEN = "\0open"
"""The key in a mapping's state that says that more keys may be there than are known."""


class Mapping(Struct, eq=False):
    """A dict; `state` maps the key's text to its slot."""

    state: State = field(default_factory=dict)
    place: Place | None = None
    origin: LibraryObject | None = None
    """The object whose attributes these are, if it may have more of them than are known."""
    attributes: bool = False
    """Its keys can be read and set as attributes too (OmegaConf, EasyDict, Box), and so can those of dicts in it."""
    written: dict[str, tuple[Object, Object]] = field(default_factory=dict)
    """By key, an interpolation's value and the text `${…}` it came from, so that a merge can work it out anew."""
    backing: Instance | None = None
    """The object whose `__dict__` this is: what is written here is its attribute."""

    def slots(self) -> tuple[tuple[str, Slot], ...]:
        """All known keys with their slots, in insertion order."""
        return tuple((key, slot) for key, slot in self.state.items() if key != OPEN)

    @property
    def open(self) -> bool:
        """Keys may be missing from what is known."""
        return bool(self.state.get(OPEN))


class Given(Struct, frozen=True):
    """A keyword argument at a call."""

    name: str
    value: Object
    name_place: Place | None = None


class LibraryObject(Struct, eq=False):
    """The result of a call into a library. `state` holds a slot per attribute assigned later on, by dotted path."""

    callee: str
    args: tuple[Object, ...]
    keywords: tuple[Given, ...]
    place: Place
    receiver: Object | None = None
    local_class: Class | None = None
    conditions: tuple[str, ...] = ()
    open: bool = False
    from_command_line: bool = False
    hidden: Unknown | None = None
    """Why more may be given than is known, where a file of settings can't be read."""
    state: State = field(default_factory=dict)
    deciding: tuple[tuple[Place, ...], ...] = ()
    """Where the values are written that decided the branches around it, innermost last."""
    entered: Place | None = None
    """Of a call in another module: the call in the script itself that led to it."""
    loops: tuple[Place, ...] = ()

    def argument(self, name: str) -> Object | None:
        """The object behind an assigned attribute or a keyword."""
        written = None
        for given in self.keywords:  # the last one of a name counts
            if given.name == name:
                written = given.value
        slot: Slot | None = self.state.get(name)
        if slot is None:
            return written
        if written is None or not isinstance(slot.value, Choice):
            return slot.value
        # a branch that leaves the attribute alone leaves the keyword's value
        return Choice(tuple((written if item is NOT_GIVEN else item, tests) for item, tests in slot.value.options))


class Instance(Struct, eq=False):
    """An object of a class that the file itself defines, or a namespace of command-line settings."""

    kind: Class | None
    place: Place | None
    state: State = field(default_factory=dict)
    origins: tuple[LibraryObject, ...] = ()
    """Objects whose attributes were poured into this one; asked for what `state` lacks."""
    items: Mapping | None = None
    """Its keys, where its class extends `dict`."""


class FieldSpec(Struct, frozen=True):
    """`dataclasses.field(...)`: a default, a factory for one, or neither."""

    default: Object | None
    factory: Object | None = None
    flags: tuple[str, ...] = ()
    """Other names on the command line."""


class Field(Struct, frozen=True):
    """A field of a dataclass of the file."""

    name: str
    name_place: Place
    spec: FieldSpec
    annotation: cst.BaseExpression | None = None


class Scope(Struct, eq=False):
    """The names of a module, class body or function invocation."""

    state: State
    parent: Scope | None = None
    kind: str = "module"
    serial: int = 0
    outer_names: dict[str, Scope] = field(default_factory=dict)
    """Names that `global` or `nonlocal` bind elsewhere."""
    owner: Class | None = None
    """The class whose method this invocation is."""
    self_object: Object | None = None
    """What the method was called on."""
    home: Module | None = None
    """The module of the project that this is the top scope of; None in the script itself."""
    define: Callable[[str], None] | None = None
    """Runs what binds a name at the top of another module, before the name is looked up."""
    stars: list[str] = field(default_factory=list)
    """Modules of `from … import *` at the top."""

    def find(self, name: str) -> Object | None:
        """The object that a name stands for; class bodies are invisible to the functions in them."""
        if name in self.outer_names:
            return self.outer_names[name].find(name)
        scope: Scope | None = self
        while scope is not None:
            if scope.define is not None:
                scope.define(name)
            if name in scope.state and (scope.kind != "class" or scope is self):
                held = scope.state[name]
                found: Object = held.resolve() if isinstance(held, Pending) else held
                scope.state[name] = found
                return found
            scope = scope.parent
        return None

    def top(self) -> Scope:
        """The scope of the module."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope


class Function(Struct, eq=False):
    """A function or lambda of the file with the scope that it closes over."""

    name: str
    node: cst.FunctionDef | cst.Lambda
    scope: Scope
    defaults: dict[str, Object]
    tests: Tests = ()
    decorators: tuple[Object, ...] = ()
    owner: Class | None = None
    called: int = 0

    def decorated_with(self, *last_parts: str) -> bool:
        """Whether a decorator's qualified name ends in one of the words."""
        return any(decorator_name(item).rpartition(".")[2] in last_parts for item in self.decorators)


class Class(Struct, eq=False):
    """A class of the file."""

    name: str
    place: Place
    bases: tuple[Object, ...]
    scope: Scope
    fields: tuple[Field, ...] = ()
    is_dataclass: bool = False
    last_instance: Instance | LibraryObject | None = None
    instances: list[Instance] = field(default_factory=list)
    """Its objects, where it extends no library class."""
    members: dict[str, Object] = field(default_factory=dict)
    """Of an enumeration."""
    adopted: bool = False
    """A class of another module whose methods are evaluated, called or not."""

    def ancestry(self) -> tuple[Class, ...]:
        """The class and its ancestors in this file, nearest first."""
        found: list[Class] = [self]
        for base in self.bases:
            if isinstance(base, Class):
                found += [item for item in base.ancestry() if item not in found]
        return tuple(found)

    def base_names(self) -> tuple[str, ...]:
        """Qualified names of all bases, nearest first."""
        names: dict[str, None] = {}
        for item in self.ancestry():
            for base in item.bases:
                names[base.name if isinstance(base, Class) else decorator_name(base)] = None
        return tuple(name for name in names if name)

    def member(self, name: str) -> Object | None:
        """A class attribute or method, looked up through the ancestors in this file."""
        for item in self.ancestry():
            if name in item.scope.state:
                found: Object = item.scope.state[name]
                return found
        return None

    def all_fields(self) -> tuple[Field, ...]:
        """Dataclass fields, those of the bases first, overridden ones in their first position."""
        found: dict[str, Field] = {}
        for item in reversed(self.ancestry()):
            for entry in item.fields:
                found[entry.name] = entry
        return tuple(found.values())


class BoundMethod(Struct, frozen=True):
    """A method of the file together with its object."""

    function: Function
    owner: Object


class Context(Struct, frozen=True):
    """What a function under `@contextmanager` gives: the value that its `with` block gets."""

    value: Object


class Attribute(Struct, frozen=True):
    """An attribute of a value that the file does not define: `model.config`, a method before it is called."""

    receiver: Object
    name: str
    place: Place | None = None


class Partial(Struct, frozen=True):
    """`functools.partial(target, ...)`."""

    target: Object
    args: tuple[Object, ...]
    keywords: tuple[Given, ...]
    place: Place | None = None


class Option(Struct, frozen=True):
    """One argument that an argparse parser knows."""

    name: str
    name_place: Place | None
    default: Object
    flags: tuple[str, ...] = ()
    """As written on the command line; none for a positional argument."""
    action: str = "store"
    arity: str | int | None = None
    """argparse's `nargs`."""
    constant: Object | None = None
    """argparse's `const`."""
    kind: Object | None = None
    """argparse's `type`."""
    command: str = ""
    """The subcommand that it belongs to, empty for the program's own."""
    names_file: bool = False
    """configargparse: its value is the path of a file of settings."""


class OptionParser(Struct, eq=False):
    """An argparse parser; `state` maps destinations to options. Parsers of subcommands share their parent's."""

    state: State = field(default_factory=dict)
    place: Place | None = None
    command: str = ""
    """Which subcommand it parses."""
    fixed: dict[str, Object] = field(default_factory=dict)
    """Keywords that it was made with."""


class DataclassParser(Struct, eq=False):
    """HfArgumentParser and its relatives: builds dataclasses from the command line."""

    classes: tuple[Object, ...]
    options: OptionParser
    place: Place
    parsed: tuple[Object, ...] = ()


Object = (
    Scalar
    | Name
    | Unknown
    | Choice
    | Sequence
    | Mapping
    | LibraryObject
    | Instance
    | FieldSpec
    | Function
    | Class
    | BoundMethod
    | Attribute
    | Partial
    | Context
    | OptionParser
    | DataclassParser
    | Module
)

NOT_GIVEN = Unknown("not given")
"""The option of a key, keyword or attribute that one branch sets and another leaves out."""


def decorator_name(item: object) -> str:
    """The qualified name of a decorator or base, whether bare or called; empty for anything else."""
    if isinstance(item, LibraryObject):
        return item.callee
    if isinstance(item, Attribute):
        return f".{item.name}"
    return item.qualified if isinstance(item, Name) else ""


def computed(value: Plain, place: Place | None) -> Scalar:
    """A scalar that follows from others."""
    return Scalar(value, place, "computed")

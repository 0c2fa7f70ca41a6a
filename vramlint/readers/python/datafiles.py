"""Data files that a program loads: their trees as objects, every value at its place in that file."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from types import MappingProxyType

from vramlint.readers.python.choices import each
from vramlint.readers.python.commandline.kinds import literal
from vramlint.readers.python.commandline.words import relocated
from vramlint.readers.python.machine import Handler, Machine, Site
from vramlint.readers.python.objects import (
    Attribute,
    Choice,
    LibraryObject,
    Mapping,
    Object,
    Sequence,
    Slot,
    computed,
)
from vramlint.text import Document
from vramlint.values import Items, Reading, Scalar, Table, Unknown, Value

_OPENING = frozenset({"open", "io.open", "codecs.open", "fsspec.open", ".open", ".__enter__"})
_READING = frozenset({".read", ".read_text", ".read_bytes", ".decode", ".readlines"})

MAX_TEXT = 1_000_000
"""Characters of a data file that is read for its values."""


def read_tree(document: Document, form: str) -> Object | None:
    """The tree of a data file, None when it holds none."""
    if len(document.text) > MAX_TEXT:
        return None
    reading = _READERS[form](document)
    return None if reading.root is None else to_object(reading.root)


def _json(document: Document) -> Reading:
    from vramlint.readers.json import read_json

    return read_json(document)


def _yaml(document: Document) -> Reading:
    from vramlint.readers.yaml import read_yaml

    return read_yaml(document)


def _toml(document: Document) -> Reading:
    from vramlint.readers.toml import read_toml

    return read_toml(document)


_READERS: MappingProxyType[str, Callable[[Document], Reading]] = MappingProxyType(
    {"json": _json, "yaml": _yaml, "toml": _toml}
)

_FORMS = MappingProxyType({"json": "json", "jsonc": "json", "hjson": "json", "yaml": "yaml", "yml": "yaml"})


def form_of_path(path: str) -> str:
    """The form of a data file by its suffix, YAML where that says nothing: it takes JSON too."""
    suffix = path.rpartition(".")[2].lower()
    return "toml" if suffix == "toml" else _FORMS.get(suffix, "yaml")


def to_object(value: Value) -> Object:
    """A value of a data file as an object that a program can change."""
    match value:
        case Scalar():
            return Scalar(value.value, value.place, "config-file")
        case Items():
            return Sequence.of(tuple(map(to_object, value.values)), value.place)
        case Table():
            state = {entry.key: Slot(entry.key_place, to_object(entry.value)) for entry in value}
            return Mapping({**state}, value.place)
        case Unknown():
            return value
    return Unknown("a value of a data file", value.place)


def load_path(machine: Machine, path: Object, form: str = "") -> Object | None:
    """The tree of the file behind a path, None where there is none to be found."""
    if not isinstance(path, Scalar) or not isinstance(path.value, str):
        return None
    document = find(machine, path.value)
    if document is not None and path.place is not None:
        machine.trail.files.setdefault(document.path, path.place)
    return None if document is None else read_tree(document, form or form_of_path(path.value))


def find(machine: Machine, path: str) -> Document | None:
    """The project's file of that path."""
    if not path or len(path) > 4096 or "\0" in path:
        return None
    return machine.files(posixpath.normpath(path))


def exists(machine: Machine, item: Object, site: Site) -> Object:
    """Whether there is a file: yes for settings that the project has; what else there is, only run time knows."""

    def known(one: Object) -> Object:
        path = one.value if isinstance(one, Scalar) and isinstance(one.value, str) else ""
        if path.lower().endswith(_SETTINGS) and find(machine, path) is not None:
            return computed(True, site.place)
        return recorded(machine, site)

    return each(known, item)


_SETTINGS = (".json", ".jsonc", ".yaml", ".yml", ".toml")
_EXISTS = ("exists", "isfile", "is_file")


def exists_method(machine: Machine, name: str, path: Scalar, site: Site) -> Object | None:
    """`Path(…).exists()`, None for other methods."""
    return exists(machine, path, site) if name in _EXISTS else None


def path_of(item: Object) -> Object | None:
    """The path behind an opened file, its text, or the path itself; None for anything else."""
    for _ in range(6):
        match item:
            case Scalar() | Choice():
                return item
            case LibraryObject(callee=callee) if callee in _OPENING or callee in _READING:
                own = callee.startswith(".") and item.receiver is not None
                if own and callee == ".open" and isinstance(item.receiver, LibraryObject):
                    return None
                inner = item.receiver if own else (item.args[0] if item.args else item.argument("file"))
                if inner is None or _writes(item):
                    return None
                item = inner
            case Attribute():
                return None
            case _:
                return None
    return None


def _writes(opened: LibraryObject) -> bool:
    position = 0 if opened.callee == ".open" else 1
    mode = opened.args[position] if len(opened.args) > position else opened.argument("mode")
    return isinstance(mode, Scalar) and any(letter in str(mode.value) for letter in "wax")


def _from_file(form: str) -> Handler:
    """`json.load(file)`; also of a path, as `toml.load` and `OmegaConf.load` take it."""

    def load(machine: Machine, site: Site) -> Object:
        path = path_of(site.first()) if site.arguments.positional else None
        return loaded(machine, path, form, site)

    return load


def loaded(machine: Machine, path: Object | None, form: str, site: Site) -> Object:
    """What a call that loads a file gives; the call is recorded, for it names a file of the run."""
    made = recorded(machine, site)
    if path is None:
        return made

    def read(one: Object) -> Object:
        found = load_path(machine, one, form)
        return made if found is None else found

    return each(read, path)


def recorded(machine: Machine, site: Site) -> LibraryObject:
    """The call as the program makes it."""
    callee = getattr(site.callee, "qualified", "") or f".{getattr(site.callee, 'name', '')}"
    receiver = site.callee.receiver if isinstance(site.callee, Attribute) else None
    arguments = site.arguments
    return machine.emit(
        LibraryObject(callee, arguments.positional, arguments.keywords, site.place, receiver, open=arguments.open)
    )


def load_with(machine: Machine, form: str, site: Site) -> Object:
    """`YAML().load(file)`: a method of a reader."""
    return _from_text(form)(machine, site)


def _from_text(form: str) -> Handler:
    """`json.loads(text)`: of a file's text, or of text that the program or its command line holds."""

    def load(machine: Machine, site: Site) -> Object:
        item = site.first()
        if isinstance(item, (Scalar, Choice)):
            return each(lambda one: text_value(one, form, site), item)
        return loaded(machine, path_of(item), form, site)

    return load


def text_value(item: Object, form: str, site: Site) -> Object:
    """Text as the value that it spells."""
    if not isinstance(item, Scalar) or not isinstance(item.value, str):
        return site.unknown("text that only run time knows")
    found = read_tree(Document.of("", item.value), form)
    found = literal(item.value) if found is None and form == "json" else found
    return site.unknown("text that is no JSON") if found is None else relocated(found, item)


LOADING_FUNCTIONS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        **{
            f"os.path.{name}": lambda machine, site: exists(machine, site.first(), site)
            for name in ("exists", "isfile")
        },
        **{f"{module}.load": _from_file("json") for module in ("json", "hjson", "json5", "simplejson", "ujson")},
        **{
            f"{module}.loads": _from_text("json")
            for module in ("json", "hjson", "json5", "simplejson", "ujson", "orjson")
        },
        **{
            f"yaml.{name}": _from_text("yaml")
            for name in ("safe_load", "load", "full_load", "unsafe_load", "safe_load_all")
        },
        **{f"{module}.load": _from_file("toml") for module in ("toml", "tomllib", "tomli", "rtoml", "pytoml")},
        **{f"{module}.loads": _from_text("toml") for module in ("toml", "tomllib", "tomli", "rtoml")},
    }
)

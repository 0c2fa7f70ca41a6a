"""Methods of known strings, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from vramlint.readers.python.commandline.words import is_given, piece_of
from vramlint.readers.python.decisions import by_key, chosen
from vramlint.readers.python.execution import put_name
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import (
    ITEMS,
    NOT_GIVEN,
    OPEN,
    Choice,
    Mapping,
    Object,
    Sequence,
    Slot,
    computed,
)
from vramlint.text import Place
from vramlint.values import Scalar, Unknown

_TEXT_METHODS_WORDS = """
    capitalize count endswith find format index isdigit islower isupper join lower lstrip partition removeprefix
    removesuffix replace rfind rpartition rsplit rstrip split splitlines startswith strip title upper
"""
_TEXT_METHODS = frozenset(_TEXT_METHODS_WORDS.split())

_SAME_PATH = frozenset({"absolute", "as_posix", "expanduser", "resolve"})
"""Methods of a path, which is kept as its text, that leave what it names alone."""

_LONGEST = 10_000


def text_method(method: str, text: Scalar, site: Site) -> Object | None:
    """`"...".method(...)`; None when strings have no such method."""
    if method in _SAME_PATH:
        return text
    if method == "joinpath":
        return join_path((text, *site.arguments.positional), site)
    if method not in _TEXT_METHODS or not isinstance(text.value, str):
        return None
    plains = [plain_of(item) for item in site.arguments.positional]
    named = {given.name: plain_of(given.value) for given in site.arguments.keywords}
    if site.arguments.open or NotImplemented in plains or NotImplemented in named.values():
        return site.unknown(f"text.{method}() of unknown parts")
    if method == "format" and ("*" in text.value or any(digit * 4 in text.value for digit in "0123456789")):
        return site.unknown("text of unusual width")
    try:
        result = getattr(text.value, method)(*plains, **named)
    except (TypeError, ValueError, LookupError, AttributeError):
        return site.unknown(f"text.{method}() that fails")
    found = lift(result, site.place)
    return piece_of(found, text) if is_given(text) and not isinstance(result, bool) else found


def plain_of(item: Object) -> Any:  # noqa: ANN401 (any plain Python value)
    """The Python value of a wholly known object; NotImplemented for others."""
    if isinstance(item, Scalar):
        return item.value
    if isinstance(item, Sequence) and item.elements is not None:
        values = [plain_of(element) for element in item.elements]
        return NotImplemented if NotImplemented in values else values
    return NotImplemented


def lift(value: object, place: Place) -> Object:
    """The object for a plain Python value that was worked out."""
    if isinstance(value, (list, tuple)):
        return Sequence.of(tuple(lift(item, place) for item in value[:1000]), place)
    if isinstance(value, str) and len(value) > _LONGEST:
        return Unknown("long text", place)
    return computed(value, place) if isinstance(value, (str, int, float)) or value is None else Unknown("text", place)


def join_path(parts: tuple[Object, ...], site: Site) -> Object:
    """`os.path.join`; the place is that of the only part, or of the call."""
    texts = [part.value for part in parts if isinstance(part, Scalar)]
    if len(texts) != len(parts) or not all(isinstance(text, str) for text in texts) or not parts:
        return site.unknown("path with unknown parts")
    if len(parts) == 1:
        return parts[0]
    joined = ""
    for text in map(str, texts):
        joined = text if text.startswith("/") or not joined else f"{joined.rstrip('/')}/{text}"
    return computed(joined, site.place)


def sequence_method(machine: Machine, method: str, items: Sequence, site: Site) -> Object | None:
    """`[...].method(...)`; None when lists and sets have no such method."""
    change = _SEQUENCE_CHANGES.get(method)
    arguments = site.arguments
    if change is None:
        return None
    elements = items.elements
    new = None if elements is None else change(elements, arguments)
    result: Object = Scalar(None, None, "computed")
    if method == "copy":
        return Sequence.of(elements, items.place) if elements is not None else items
    if method == "pop" and elements:
        result = elements[-1]
    machine.journal.put(items.state, ITEMS, Unknown("list that changes") if new is None else new)
    return result


Elements = tuple[Object, ...]


def _extended(elements: Elements, arguments: Arguments) -> Elements | None:
    more = arguments.get("", 0)
    return (*elements, *more.elements) if isinstance(more, Sequence) and more.elements is not None else None


def _added(elements: Elements, arguments: Arguments) -> Elements | None:
    item = arguments.get("", 0)
    return None if item is None or len(elements) > 1000 else (*elements, item)


def _removed(elements: Elements, arguments: Arguments) -> Elements | None:
    item = arguments.get("", 0)
    if not isinstance(item, Scalar) or not all(isinstance(element, Scalar) for element in elements):
        return None
    return tuple(element for element in elements if isinstance(element, Scalar) and element.value != item.value)


_SEQUENCE_CHANGES: MappingProxyType[str, Callable[[Elements, Arguments], Elements | None]] = MappingProxyType(
    {
        "append": _added,
        "add": _added,
        "extend": _extended,
        "update": _extended,
        "remove": _removed,
        "discard": _removed,
        "pop": lambda elements, arguments: None if arguments.positional else elements[:-1],
        "copy": lambda elements, _: elements,
        "insert": lambda _, __: None,
        "clear": lambda _, __: (),
        "sort": lambda _, __: None,
        "reverse": lambda elements, _: elements[::-1],
    }
)


def mapping_method(machine: Machine, method: str, table: Mapping, site: Site) -> Object | None:
    """`{...}.method(...)`; None when dicts have no such method."""
    handler = _MAPPING_METHODS.get(method)
    return None if handler is None else handler(machine, table, site)


def is_mapping_method(name: str) -> bool:
    """Whether dicts have a method of that name that is worked out here."""
    return name in _MAPPING_METHODS


def lookup(table: Mapping, key: Object, default: Object | None, place: Place) -> Object:
    """The value under a key, `default` when it surely is not there."""
    if not isinstance(key, Scalar):
        return Unknown("unknown key", place)
    slot: Slot | None = table.state.get(str(key.value))
    if slot is None:
        return Unknown(f"key {key.value}", place) if table.open or default is None else default
    if isinstance(slot.value, Choice) and default is not None:
        return Choice(
            tuple((default if option is NOT_GIVEN else option, tests) for option, tests in slot.value.options)
        )
    return slot.value


def _get(machine: Machine, table: Mapping, site: Site) -> Object:
    default = site.arguments.get("default", 1) or Scalar(None, None, "computed")
    key = site.arguments.positional[0] if site.arguments.positional else default
    return chosen(machine, lookup(table, key, default, site.place), by_key(key, site.place))


def _pop(machine: Machine, table: Mapping, site: Site) -> Object:
    found = _get(machine, table, site)
    key = site.arguments.get("", 0)
    if isinstance(key, Scalar):
        machine.journal.remove(table.state, str(key.value))
    return found


def _set_default(machine: Machine, table: Mapping, site: Site) -> Object:
    key = site.arguments.get("", 0)
    value = site.arguments.get("default", 1) or Scalar(None, None, "computed")
    if isinstance(key, Scalar) and str(key.value) not in table.state and not table.open:
        machine.journal.put(table.state, str(key.value), Slot(key.place, value))
        return value
    return _get(machine, table, site)


def _update(machine: Machine, table: Mapping, site: Site) -> Object:
    other = site.arguments.get("", 0)
    merge_into(machine, table, other, site.arguments)
    return Scalar(None, None, "computed")


def store(machine: Machine, table: Mapping, key: str, slot: Slot) -> None:
    """Write a key of a table."""
    machine.journal.put(table.state, key, slot)
    put_name(machine, table, key, slot.value)
    if table.backing is not None:
        machine.journal.put(table.backing.state, key, slot.value)


def merge_into(machine: Machine, table: Mapping, other: Object | None, arguments: Arguments) -> None:
    """Write the keys of another mapping and keyword arguments into a table."""
    if isinstance(other, Mapping):
        for key, slot in other.slots():
            store(machine, table, key, slot)
    elif isinstance(other, Sequence) and other.elements is not None:
        for pair in other.elements:
            parts = pair.elements if isinstance(pair, Sequence) else None
            if parts and len(parts) == 2 and isinstance(parts[0], Scalar):
                store(machine, table, str(parts[0].value), Slot(parts[0].place, parts[1]))
            else:
                machine.journal.put(table.state, OPEN, True)
    uncertain = other is not None and not isinstance(other, (Mapping, Sequence))
    if uncertain or arguments.open or (isinstance(other, Mapping) and other.open):
        machine.journal.put(table.state, OPEN, True)
    for given in arguments.keywords:
        store(machine, table, given.name, Slot(given.name_place, given.value))


def _parts(kind: str) -> Callable[[Machine, Mapping, Site], Object]:
    def listed(_: Machine, table: Mapping, site: Site) -> Object:
        if table.open:
            return site.unknown(f"{kind} of a dict")
        pairs = [(slot.key_object(key), slot.value) for key, slot in table.slots()]
        if kind == "items":
            return Sequence.of(tuple(Sequence.of(pair, site.place) for pair in pairs), site.place)
        return Sequence.of(tuple(pair[0] if kind == "keys" else pair[1] for pair in pairs), site.place)

    return listed


_MAPPING_METHODS: MappingProxyType[str, Callable[[Machine, Mapping, Site], Object]] = MappingProxyType(
    {
        "get": _get,
        "pop": _pop,
        "setdefault": _set_default,
        "update": _update,
        "items": _parts("items"),
        "keys": _parts("keys"),
        "values": _parts("values"),
        "copy": lambda _, table, __: Mapping(dict(table.state), table.place, attributes=table.attributes),
    }
)

"""Config objects whose keys are attributes: OmegaConf, EasyDict, Box; merging, dotted keys and interpolation."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vramlint.patterns import lazy
from vramlint.readers.python.commandline.kinds import guess
from vramlint.readers.python.commandline.words import is_flag, is_loose, part, relocated, spelled
from vramlint.readers.python.datafiles import read_tree
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import ITEMS, OPEN, Choice, Instance, Mapping, Object, Sequence, Slot
from vramlint.readers.python.probes import variable
from vramlint.text import Document, Place
from vramlint.values import Scalar, Unknown

_INNERMOST = lazy(r"\$\{([^${}]*)\}")
_EXPONENT = lazy(r"[-+]?\d[\d_]*(\.\d*)?[eE][-+]?\d{1,3}")
_MOST_STEPS = 30
"""Interpolations that are worked out for one text."""

_MOST_NESTED = 40


def as_config(item: Object, depth: int = 0) -> Object:
    """A copy whose keys, and those of everything in it, can be read as attributes."""
    if depth > _MOST_NESTED:
        return Unknown("settings nested too deep")
    match item:
        case Mapping():
            state = {
                key: Slot(slot.key_place, as_config(_raw(item, key, slot), depth + 1), slot.key)
                if isinstance(slot, Slot)
                else slot
                for key, slot in item.state.items()
            }
            return Mapping(state, item.place, attributes=True)
        case Instance():
            slots = {name: Slot(None, as_config(value, depth + 1)) for name, value in item.state.items()}
            return Mapping({**slots}, item.place, attributes=True)
        case Sequence() if item.elements is not None:
            return Sequence.of(tuple(as_config(one, depth + 1) for one in item.elements), item.place)
    return item


def with_floats(item: Object) -> Object:
    """`1e-4`, which is text to YAML 1.1 and a number to OmegaConf (omegaconf 2.3, _utils.py, get_yaml_loader)."""
    if isinstance(item, Scalar):
        known = isinstance(item.value, str) and _EXPONENT.fullmatch(item.value)
        return Scalar(float(item.value), item.place, item.via) if known and isinstance(item.value, str) else item
    if isinstance(item, Mapping):
        for key, slot in item.slots():
            item.state[key] = Slot(slot.key_place, with_floats(slot.value), slot.key)
    elif isinstance(item, Sequence) and item.elements is not None:
        item.state[ITEMS] = tuple(map(with_floats, item.elements))
    return item


def _raw(table: Mapping, key: str, slot: Slot) -> Object:
    """A value as written: the text of an interpolation unless the program has set the key since."""
    known = table.written.get(key)
    return known[1] if known is not None and known[0] is slot.value else slot.value


def merged(base: Mapping, other: Mapping) -> Mapping:
    """Two configs, the second over the first, neither changed."""
    state = dict(base.state)
    for key, slot in other.state.items():
        if not isinstance(slot, Slot):
            state[key] = slot
            continue
        before = state.get(key)
        value = _raw(other, key, slot)
        if isinstance(before, Slot) and isinstance(before.value, Mapping) and isinstance(value, Mapping):
            value = merged(before.value, value)
        state[key] = Slot(slot.key_place, value, slot.key)
    for key, (found, raw) in base.written.items():
        slot = state.get(key)
        if isinstance(slot, Slot) and slot.value is found:
            state[key] = Slot(slot.key_place, raw, slot.key)
    return Mapping(state, base.place or other.place, attributes=True)


def put_path(table: Mapping, path: str, value: Object, place: Place | None) -> None:
    """Set a dotted key, with the tables on the way to it."""
    *folders, last = [part for part in re.split(r"\.|\[(\d+)\]", path) if part] or [path]
    for name in folders:
        slot = table.state.get(name)
        inner = slot.value if isinstance(slot, Slot) else None
        inner = Mapping(dict(inner.state), inner.place, attributes=True) if isinstance(inner, Mapping) else None
        inner = Mapping({}, place, attributes=True) if inner is None else inner
        table.state[name] = Slot(slot.key_place if isinstance(slot, Slot) else place, inner)
        table = inner
    table.state[last] = Slot(place, value)


def remove_path(table: Mapping, path: str) -> None:
    """Drop a dotted key."""
    *folders, last = path.split(".")
    for name in folders:
        slot = table.state.get(name)
        if not isinstance(slot, Slot) or not isinstance(slot.value, Mapping):
            return
        table = slot.value
    table.state.pop(last, None)


def value_at(table: Object, path: str) -> Object | None:
    """The value under a dotted key, None where there is none."""
    found: Object = table
    for name in path.split(".") if path else ():
        if isinstance(found, Mapping):
            slot = found.state.get(name)
            if not isinstance(slot, Slot):
                return None
            found = slot.value
        elif isinstance(found, Sequence) and found.elements is not None and name.isdecimal():
            index = int(name[:9])
            if index >= len(found.elements):
                return None
            found = found.elements[index]
        else:
            return None
    return found


def dotlist(words: Iterable[Object], into: Mapping | None = None) -> Mapping:
    """`a.b=1` words as nested tables; words that may be anything leave the table open."""
    table = Mapping({}, attributes=True) if into is None else into
    for word in words:
        if is_loose(word) or isinstance(word, Choice):
            table.state[OPEN] = True
            continue
        key, equals, _ = spelled(word).partition("=")
        if equals and key and not is_flag(word):
            put_path(table, key, override_value(part(word, len(key) + 1)), getattr(word, "place", None))
    return table


def override_value(item: Object) -> Object:
    """The text behind `key=` as YAML takes it; `1e-4` is a number."""
    if not isinstance(item, Scalar) or not isinstance(item.value, str):
        return item
    text = item.value.strip()
    if text in ("null", "None", "~", ""):
        return Scalar(None if text != "" else "", item.place, item.via)
    found = guess(Scalar(text, item.place, item.via))
    if not isinstance(found, Scalar) or found.value != text:
        return as_config(found)
    tree = read_tree(Document.of("", text), "yaml") if text[:1] in "\"'[{" else None
    return item if tree is None else as_config(relocated(tree, item))


def resolved(machine: Machine, root: Mapping) -> Mapping:
    """The config with its interpolations worked out, each remembered as written."""
    return _resolved(machine, root, root, (), 0)


def _resolved(machine: Machine, table: Mapping, root: Mapping, path: tuple[str, ...], depth: int) -> Mapping:
    made = Mapping(dict(table.state), table.place, attributes=True)
    for key, slot in table.slots():
        raw = _raw(table, key, slot)
        value = _value(machine, raw, root, (*path, key), depth)
        if value is not slot.value:
            made.state[key] = Slot(slot.key_place, value, slot.key)
        if isinstance(raw, Scalar) and value is not raw:
            made.written[key] = (value, raw)
    return made


def _value(machine: Machine, raw: Object, root: Mapping, path: tuple[str, ...], depth: int) -> Object:
    if depth > _MOST_NESTED:
        return raw
    if isinstance(raw, Mapping):
        return _resolved(machine, raw, root, path, depth + 1)
    if isinstance(raw, Sequence) and raw.elements is not None:
        elements = tuple(
            _value(machine, one, root, (*path, str(index)), depth + 1) for index, one in enumerate(raw.elements)
        )
        return (
            raw
            if all(a is b for a, b in zip(elements, raw.elements, strict=True))
            else Sequence.of(elements, raw.place)
        )
    if isinstance(raw, Scalar) and isinstance(raw.value, str) and "${" in raw.value:
        return _interpolated(machine, raw, root, path, 0)
    return raw


def _interpolated(machine: Machine, item: Scalar, root: Mapping, path: tuple[str, ...], steps: int) -> Object:
    text = str(item.value)
    while steps < _MOST_STEPS:
        steps += 1
        found = _INNERMOST.search(text)
        if found is None:
            return Scalar(text, item.place, "computed" if item.place else item.via)
        value = _looked_up(machine, found[1], root, path, steps, item.place)
        if found[0] == text:
            return value
        if not isinstance(value, Scalar):
            reason = value.reason if isinstance(value, Unknown) else f"${{{found[1]}}} in a text"
            return Unknown(reason, item.place)
        text = f"{text[: found.start()]}{'' if value.value is None else value.value}{text[found.end() :]}"
    return Unknown("interpolations that go round in a circle", item.place)


def _looked_up(
    machine: Machine, name: str, root: Mapping, path: tuple[str, ...], steps: int, place: Place | None
) -> Object:
    """What `${name}` stands for."""
    resolver, colon, rest = name.partition(":")
    if colon:
        return _resolver(machine, resolver.strip(), [part.strip() for part in rest.split(",")], root, path, place)
    name = name.strip()
    if name.startswith("."):
        up = len(name) - len(name.lstrip("."))
        name = ".".join((*path[: max(len(path) - up, 0)], name.lstrip(".")))
    found = value_at(root, re.sub(r"\[(\w+)\]", r".\1", name))
    if found is None:
        return Unknown(f"${{{name}}}, which the config doesn't have", place)
    if isinstance(found, Scalar) and isinstance(found.value, str) and "${" in found.value:
        return _interpolated(machine, found, root, tuple(name.split(".")), steps)
    if isinstance(found, Mapping) and steps < _MOST_STEPS:
        return _resolved(machine, found, root, tuple(name.split(".")), steps)
    return found


def _resolver(
    machine: Machine, resolver: str, parts: list[str], root: Mapping, path: tuple[str, ...], place: Place | None
) -> Object:
    default = override_value(Scalar(parts[1].strip("'\""), place)) if len(parts) > 1 else None
    if resolver in ("oc.env", "env"):
        found = variable(machine, parts[0])
        if isinstance(found, Scalar) and found.value is None:
            return default if default is not None else Unknown(f"environment variable {parts[0]}", place)
        if found is None:
            return Unknown(f"environment variable {parts[0]}", place)
        return guess(found) if isinstance(found, Scalar) and isinstance(found.value, str) else found
    if resolver == "oc.select":
        selected = value_at(root, parts[0])
        return selected if selected is not None else default or Scalar(None, place)
    return Unknown(f"resolver ${{{resolver}:…}}", place)

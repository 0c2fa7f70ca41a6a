"""Built-in functions of known objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from vramlint.readers.python.choices import each
from vramlint.readers.python.machine import Handler, Machine, Site
from vramlint.readers.python.methods import lift, merge_into, plain_of
from vramlint.readers.python.modules import MAX_LAYERS, builds
from vramlint.readers.python.objects import (
    Instance,
    Mapping,
    Object,
    Sequence,
    computed,
)
from vramlint.readers.python.operators import reason_of
from vramlint.readers.python.truth import truth
from vramlint.values import Name, Scalar, Unknown

_FAILS = "conversion that fails"


def _conversion(convert: Callable[..., Any]) -> Handler:
    def converted(machine: Machine, site: Site) -> Object:
        if not site.arguments.positional:
            return computed(convert(), site.place)
        found = each(lambda item: _convert(convert, item, site), site.first())
        if isinstance(found, Unknown) and found.reason == _FAILS:
            machine.fail()
        return found

    return converted


def _convert(convert: Callable[..., Any], item: Object, site: Site) -> Object:
    if not isinstance(item, Scalar):
        if convert is bool:
            found = truth(item)
            return Unknown(reason_of(item), site.place) if found is None else computed(found, site.place)
        return Unknown(reason_of(item), site.place)
    try:
        value = convert(item.value)
    except (TypeError, ValueError, OverflowError):
        return site.unknown(_FAILS)
    same = type(value) is type(item.value) and value == item.value
    return item if same else Scalar(value, item.place, "computed" if item.place else item.via)


def _numbers(function: Callable[..., Any]) -> Handler:
    """A function of wholly known plain values."""

    def applied(_: Machine, site: Site) -> Object:
        def work(*items: Object) -> Object:
            plains = [plain_of(item) for item in items]
            if site.arguments.open or NotImplemented in plains or site.arguments.keywords:
                doubtful = next((item for item in items if not isinstance(item, Scalar)), site.first())
                return Unknown(reason_of(doubtful), site.place)
            try:
                return lift(function(*plains), site.place)
            except (TypeError, ValueError, ArithmeticError):
                return site.unknown("arithmetic that fails")

        return each(work, *site.arguments.positional)

    return applied


def _length(_: Machine, site: Site) -> Object:
    def measured(item: Object) -> Object:
        if isinstance(item, Scalar) and isinstance(item.value, str):
            return computed(len(item.value), site.place)
        if isinstance(item, Sequence) and item.elements is not None:
            return computed(len(item.elements), site.place)
        if isinstance(item, Mapping) and not item.open:
            return computed(len(item.slots()), site.place)
        return Unknown(f"length: {reason_of(item)}", site.place)

    return each(measured, site.first())


def _dict(machine: Machine, site: Site) -> Object:
    made = Mapping({}, site.place)
    merge_into(machine, made, site.arguments.get("", 0), site.arguments)
    return made


def _list(_: Machine, site: Site) -> Object:
    def listed(item: Object) -> Object:
        if isinstance(item, Sequence):
            return Sequence(dict(item.state), item.place)
        if isinstance(item, Mapping) and not item.open:
            return Sequence.of(tuple(slot.key_object(key) for key, slot in item.slots()), site.place)
        return Unknown(reason_of(item), site.place)

    return each(listed, site.first()) if site.arguments.positional else Sequence.of((), site.place)


_KINDS: MappingProxyType[str, tuple[type, ...]] = MappingProxyType(
    {"str": (str,), "int": (int,), "float": (float,), "bool": (bool,)}
)


def _isinstance(_: Machine, site: Site) -> Object:
    asked = site.arguments.get("", 1)
    names = asked.elements if isinstance(asked, Sequence) else (asked,)

    def tested(item: Object) -> Object:
        found = [_is_a(item, name.qualified) if isinstance(name, Name) else None for name in names or ()]
        if True in found:
            return computed(True, site.place)
        return site.unknown("type of a run-time value") if None in found or not found else computed(False, site.place)

    return each(tested, site.first())


def _is_a(item: Object, kind: str) -> bool | None:
    if isinstance(item, Scalar):
        return isinstance(item.value, _KINDS[kind]) if kind in _KINDS else False
    if isinstance(item, Sequence):
        # tuples and sets are kept as sequences too, so only what is no container at all is excluded
        return False if kind in _KINDS or kind == "dict" else None
    if isinstance(item, Mapping):
        return kind == "dict" if kind in _KINDS or kind in {"dict", "list", "tuple", "set"} else None
    return None


def _boolean(joined: Callable[[list[bool | None]], bool | None]) -> Handler:
    def tested(_: Machine, site: Site) -> Object:
        item = site.first()
        elements = item.elements if isinstance(item, Sequence) else None
        found = None if elements is None else joined([truth(element) for element in elements])
        return site.unknown("truth of run-time values") if found is None else computed(found, site.place)

    return tested


def _all(found: list[bool | None]) -> bool | None:
    return False if False in found else None if None in found else True


def _any(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


_LONGEST_RANGE = 64
"""Ranges beyond this are not taken number by number, but in the constructor of a module, which makes layers."""


def _range(machine: Machine, site: Site) -> Object:
    plains = [plain_of(item) for item in site.arguments.positional]
    if plains and all(isinstance(item, int) for item in plains) and (len(plains) < 3 or plains[2]):
        numbers = range(*plains[:3])
        if len(numbers) <= (MAX_LAYERS if builds(machine) else _LONGEST_RANGE):
            return Sequence.of(tuple(computed(number, site.place) for number in numbers), site.place)
    return site.unknown("range")


def _zip(_: Machine, site: Site) -> Object:
    lists = [item.elements if isinstance(item, Sequence) else None for item in site.arguments.positional]
    known = [item for item in lists if item is not None]
    if not known or len(known) != len(lists):
        return site.unknown("zip of run-time values")
    return Sequence.of(tuple(Sequence.of(row, site.place) for row in zip(*known, strict=False)), site.place)


def _enumerate(_: Machine, site: Site) -> Object:
    item = site.first()
    if not isinstance(item, Sequence) or item.elements is None:
        return site.unknown("enumeration of run-time values")
    rows = (Sequence.of((computed(index, site.place), element)) for index, element in enumerate(item.elements))
    return Sequence.of(tuple(rows), site.place)


def _type(_: Machine, site: Site) -> Object:
    item = site.first()
    return item.kind if isinstance(item, Instance) and item.kind else site.unknown("type of a value")


BUILTIN_FUNCTIONS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        "int": _conversion(int),
        "float": _conversion(float),
        "str": _conversion(str),
        "bool": _conversion(bool),
        "len": _length,
        "min": _numbers(min),
        "max": _numbers(max),
        "abs": _numbers(abs),
        "round": _numbers(round),
        "sum": _numbers(sum),
        "math.ceil": _numbers(math.ceil),
        "math.floor": _numbers(math.floor),
        "dict": _dict,
        "collections.OrderedDict": _dict,
        "list": _list,
        "tuple": _list,
        "set": _list,
        "frozenset": _list,
        "sorted": _list,
        "reversed": _list,
        "range": _range,
        "zip": _zip,
        "enumerate": _enumerate,
        "all": _boolean(_all),
        "any": _boolean(_any),
        "isinstance": _isinstance,
        "type": _type,
    }
)

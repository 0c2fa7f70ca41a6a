"""Built-in functions of known objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from vramlint.readers.python.choices import each
from vramlint.readers.python.instances import call_special
from vramlint.readers.python.iteration import elements_of
from vramlint.readers.python.iteration_functions import ITERATION_FUNCTIONS
from vramlint.readers.python.machine import Handler, Machine, Site
from vramlint.readers.python.methods import lift, merge_into, plain_of
from vramlint.readers.python.objects import (
    Attribute,
    Class,
    Instance,
    LibraryObject,
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


_ROOMY = frozenset(("model_max_length", "max_position_embeddings", "n_positions"))
"""Attributes that say the most that a tokenizer or a model takes, which is rarely what a program asks for."""


def _least(machine: Machine, site: Site) -> Object:
    """`min(args.block_size, tokenizer.model_max_length)`: what the program asks for bounds it either way."""
    items = site.arguments.positional
    asked = [item for item in items if not (isinstance(item, Attribute) and item.name in _ROOMY)]
    if len(asked) == 1 < len(items) and not site.arguments.open:
        return asked[0]
    return _numbers(min)(machine, site)


def _length(machine: Machine, site: Site) -> Object:
    def measured(item: Object) -> Object:
        if isinstance(item, Scalar) and isinstance(item.value, str):
            return computed(len(item.value), site.place)
        if isinstance(item, Sequence) and item.elements is not None:
            return computed(len(item.elements), site.place)
        if isinstance(item, Mapping) and not item.open:
            return computed(len(item.slots()), site.place)
        if isinstance(item, Instance) and (own := call_special(machine, item, "__len__", (), site)) is not None:
            return own
        elements = elements_of(item)
        if elements is not None:
            return computed(len(elements), site.place)
        return Unknown(f"length: {reason_of(item)}", site.place)

    return each(measured, site.first())


def _dict(machine: Machine, site: Site) -> Object:
    made = Mapping({}, site.place)
    merge_into(machine, made, site.arguments.get("", 0), site.arguments)
    return made


_KINDS: MappingProxyType[str, tuple[type, ...]] = MappingProxyType(
    {"str": (str,), "int": (int,), "float": (float,), "bool": (bool,)}
)


def _isinstance(_: Machine, site: Site) -> Object:
    asked = site.arguments.get("", 1)
    names = asked.elements if isinstance(asked, Sequence) else (asked,)

    def tested(item: Object) -> Object:
        found = [is_instance(item, name) for name in names or ()]
        if True in found:
            return computed(True, site.place)
        return site.unknown("type of a run-time value") if None in found or not found else computed(False, site.place)

    return each(tested, site.first())


def is_instance(item: Object, kind: Object | None) -> bool | None:
    """Whether an object is of a class; None where only run time knows."""
    if isinstance(kind, Name):
        own = item.local_class if isinstance(item, LibraryObject) else None
        if own is not None and kind.qualified in own.base_names():
            return True
        return _is_a(item, kind.qualified)
    if not isinstance(kind, Class):
        return None
    if isinstance(item, Instance):
        return kind in item.kind.ancestry() if item.kind is not None else False
    if isinstance(item, LibraryObject) and item.local_class is not None:
        return kind in item.local_class.ancestry()
    if isinstance(item, Scalar):
        return any(item is member for member in kind.members.values())
    return False if isinstance(item, (Sequence, Mapping)) else None


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


def _names_of(_: Machine, site: Site) -> Object:
    """`dir(object)`."""
    item = site.first()
    kind = item.kind if isinstance(item, Instance) else item if isinstance(item, Class) else None
    names = set(item.state) if isinstance(item, Instance) else set()
    for base in kind.ancestry() if kind else ():
        names |= set(base.scope.state)
    if not names:
        return site.unknown("names of a run-time value")
    return Sequence.of(tuple(computed(name, site.place) for name in sorted(names)), site.place)


def _type(machine: Machine, site: Site) -> Object:
    item = site.first()
    if isinstance(item, Instance) and item.kind:
        return item.kind
    if isinstance(item, Scalar) and id(item) not in machine.members:
        return Name(type(item.value).__name__, site.place)
    return site.unknown("type of a value")


def _power(base: float, exponent: float) -> object:
    if abs(base) > 2**64 or abs(exponent) > 256:
        raise ValueError
    return pow(base, exponent)


BUILTIN_FUNCTIONS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        **ITERATION_FUNCTIONS,
        "int": _conversion(int),
        "float": _conversion(float),
        "str": _conversion(str),
        "bool": _conversion(bool),
        "len": _length,
        "min": _least,
        "max": _numbers(max),
        "abs": _numbers(abs),
        "round": _numbers(round),
        "sum": _numbers(sum),
        "math.ceil": _numbers(math.ceil),
        "math.floor": _numbers(math.floor),
        "math.gcd": _numbers(math.gcd),
        "math.log": _numbers(math.log),
        "math.log2": _numbers(math.log2),
        "math.log10": _numbers(math.log10),
        "math.prod": _numbers(math.prod),
        "math.sqrt": _numbers(math.sqrt),
        "dict": _dict,
        "collections.OrderedDict": _dict,
        "dir": _names_of,
        "pow": _numbers(_power),
        "divmod": _numbers(divmod),
        "all": _boolean(_all),
        "any": _boolean(_any),
        "isinstance": _isinstance,
        "type": _type,
    }
)

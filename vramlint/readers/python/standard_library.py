"""Functions of the standard library whose results follow from what is known."""

from __future__ import annotations

import itertools
import json
import re
import textwrap
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from vramlint.patterns import lazy
from vramlint.readers.python.choices import each
from vramlint.readers.python.iteration import elements_of
from vramlint.readers.python.machine import Arguments, Handler, Machine, Site
from vramlint.readers.python.methods import lift, plain_of
from vramlint.readers.python.neighbours import import_module
from vramlint.readers.python.objects import (
    Class,
    Field,
    FieldSpec,
    Mapping,
    Object,
    Sequence,
    Slot,
    computed,
)
from vramlint.values import Name, Scalar

_LONGEST = 2_000
"""Characters of a text, and turns of a loop, that are worked through."""


def _reduce(machine: Machine, site: Site) -> Object:
    elements = elements_of(site.arguments.get("", 1) or site.first())
    if elements is None or len(elements) > _LONGEST:
        return site.unknown("result of reduce()")
    start = site.arguments.get("", 2)
    items = list(elements) if start is None else [start, *elements]
    if not items:
        return site.unknown("reduce() of nothing")
    found = items[0]
    for item in items[1:]:
        found = machine.invoke(site.of(site.first(), Arguments((found, item))))
    return found


def _combined(combine: Callable[..., Any]) -> Handler:
    """A function of itertools over known elements."""

    def applied(_: Machine, site: Site) -> Object:
        lists = [elements_of(item) for item in site.arguments.positional]
        known = [item for item in lists if item is not None]
        if len(known) != len(lists) or site.arguments.keywords or sum(map(len, known)) > _LONGEST:
            return site.unknown("elements that only run time knows")
        rows = list(itertools.islice(combine(*known), _LONGEST))
        items = [Sequence.of(row, site.place) if isinstance(row, tuple) else row for row in rows]
        return Sequence.of(tuple(items), site.place)

    return applied


def _import(machine: Machine, site: Site) -> Object:
    """`importlib.import_module("a.b")`."""
    name = site.first()
    if not isinstance(name, Scalar) or not isinstance(name.value, str):
        return site.unknown("a module that only run time knows")
    return import_module(machine, name.value) or Name(name.value, site.place)


def _named_tuple(machine: Machine, site: Site) -> Object:
    """`namedtuple("C", ["a", "b"], defaults=[1])`, `NamedTuple("C", [("a", int)])`."""
    title, names = site.first(), plain_of(site.arguments.get("field_names", 1) or site.first())
    if isinstance(names, str):
        names = names.replace(",", " ").split()
    names = () if names is NotImplemented else [name[0] if isinstance(name, list) and name else name for name in names]
    defaults = elements_of(site.arguments.get("defaults") or Sequence.of(()))
    known = names and all(isinstance(name, str) for name in names)
    if not isinstance(title, Scalar) or not known or defaults is None:
        return site.unknown("a class that only run time knows")
    made = Class(str(title.value), site.place, (Name("typing.NamedTuple"),), machine.new_scope(None, "class"))
    given: list[Object | None] = [*[None] * (len(names) - len(defaults)), *defaults]
    made.fields = tuple(
        Field(name, site.place, FieldSpec(default)) for name, default in zip(names, given, strict=False)
    )
    return made


def _from_keys(_: Machine, site: Site) -> Object:
    keys = elements_of(site.first())
    value = site.arguments.get("value", 1) or Scalar(None, None, "computed")
    if keys is None or not all(isinstance(key, Scalar) for key in keys):
        return site.unknown("keys that only run time knows")
    return Mapping({str(key.value): Slot(key.place, value, key) for key in keys if isinstance(key, Scalar)}, site.place)


def _dumped(_: Machine, site: Site) -> Object:
    plain = _plain_tree(site.first())
    if plain is NotImplemented or site.arguments.keywords:
        return site.unknown("text of a value")
    return computed(json.dumps(plain), site.place)


def _plain_tree(item: Object) -> Any:  # noqa: ANN401 (any plain Python value)
    if isinstance(item, Mapping):
        values = {key: _plain_tree(slot.value) for key, slot in item.slots()}
        return NotImplemented if item.open or NotImplemented in values.values() else values
    if isinstance(item, Sequence) and item.elements is not None:
        found = [_plain_tree(element) for element in item.elements]
        return NotImplemented if NotImplemented in found else found
    return plain_of(item)


_SIMPLE_PATTERN = lazy(r"[^()*+{}]*[*+]?[^()*+{}]*")
"""Patterns with a single repetition: no text makes them slow."""


def _pattern(function: Callable[..., Any]) -> Handler:
    def applied(_: Machine, site: Site) -> Object:
        def work(*items: Object) -> Object:
            texts = [item.value for item in items if isinstance(item, Scalar) and isinstance(item.value, str)]
            known = len(texts) == len(items) and not site.arguments.keywords and max(map(len, texts)) <= _LONGEST
            if not known or not _SIMPLE_PATTERN.fullmatch(texts[0]):
                return site.unknown("text that a pattern makes")
            try:
                return lift(function(*texts), site.place)
            except (re.error, ValueError, IndexError):
                return site.unknown("text that a pattern makes")

        return each(work, *site.arguments.positional)

    return applied


def _dedent(_: Machine, site: Site) -> Object:
    text = site.first()
    return computed(textwrap.dedent(str(text.value)), site.place) if isinstance(text, Scalar) else text


STANDARD_FUNCTIONS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        "__import__": _import,
        "importlib.import_module": _import,
        "asyncio.run": lambda _, site: site.first(),
        "collections.namedtuple": _named_tuple,
        "typing.NamedTuple": _named_tuple,
        "dict.fromkeys": _from_keys,
        "functools.reduce": _reduce,
        "itertools.chain": _combined(itertools.chain),
        "itertools.product": _combined(itertools.product),
        "json.dumps": _dumped,
        "re.split": _pattern(re.split),
        "re.sub": _pattern(re.sub),
        "textwrap.dedent": _dedent,
    }
)

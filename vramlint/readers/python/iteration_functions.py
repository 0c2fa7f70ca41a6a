"""Built-in functions that go through the elements of known objects."""

from __future__ import annotations

from types import MappingProxyType

from vramlint.readers.python.choices import each, same
from vramlint.readers.python.iteration import elements_of
from vramlint.readers.python.machine import Arguments, Handler, Machine, Site
from vramlint.readers.python.methods import plain_of
from vramlint.readers.python.modules import MAX_LAYERS, builds
from vramlint.readers.python.objects import Object, Sequence, computed
from vramlint.readers.python.operators import reason_of
from vramlint.readers.python.truth import truth
from vramlint.values import Scalar, Unknown


def _list(_: Machine, site: Site) -> Object:
    def listed(item: Object) -> Object:
        if isinstance(item, Sequence):
            return Sequence(dict(item.state), item.place)
        elements = elements_of(item)
        return Unknown(reason_of(item), site.place) if elements is None else Sequence.of(elements, site.place)

    return each(listed, site.first()) if site.arguments.positional else Sequence.of((), site.place)


def _set(machine: Machine, site: Site) -> Object:
    made = _list(machine, site)
    if not isinstance(made, Sequence) or made.elements is None:
        return made
    kept: list[Object] = []
    for element in made.elements:
        if not any(same(element, other) for other in kept):
            kept.append(element)
    return Sequence.of(tuple(kept), made.place)


def _sorted(machine: Machine, site: Site) -> Object:
    elements = elements_of(site.first())
    function = site.arguments.get("key")
    if elements is None:
        return site.unknown("order of run-time values")
    by = elements if function is None else [machine.invoke(site.of(function, Arguments((item,)))) for item in elements]
    keys = [plain_of(item) for item in by]
    backwards = truth(site.arguments.get("reverse") or Scalar(False)) is True
    try:
        order = sorted(range(len(keys)), key=keys.__getitem__, reverse=backwards)
    except TypeError:
        return site.unknown("order of run-time values")
    return Sequence.of(tuple(elements[index] for index in order), site.place)


def _reversed(_: Machine, site: Site) -> Object:
    elements = elements_of(site.first())
    return site.unknown("run-time values") if elements is None else Sequence.of(elements[::-1], site.place)


def _map(machine: Machine, site: Site) -> Object:
    lists = [elements_of(item) for item in site.arguments.positional[1:]]
    known = [item for item in lists if item is not None]
    if not known or len(known) != len(lists):
        return site.unknown("elements that only run time knows")
    rows = zip(*known, strict=False)
    return Sequence.of(tuple(machine.invoke(site.of(site.first(), Arguments(row))) for row in rows), site.place)


def _filter(machine: Machine, site: Site) -> Object:
    function, elements = site.first(), elements_of(site.arguments.get("", 1) or site.first())
    own = isinstance(function, Scalar)  # None: what is true by itself
    kept = []
    for item in elements or ():
        found = truth(item if own else machine.invoke(site.of(function, Arguments((item,)))))
        if found is None:
            elements = None
        elif found:
            kept.append(item)
    return (
        site.unknown("elements that only run time knows") if elements is None else Sequence.of(tuple(kept), site.place)
    )


def _next(_: Machine, site: Site) -> Object:
    """The first element: what is gone through twice is no iterator here."""
    elements = elements_of(site.first())
    if elements is None:
        return site.unknown("result of next()")
    default = site.arguments.get("", 1)
    return elements[0] if elements else default if default is not None else site.unknown("next() of nothing")


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
    lists = [elements_of(item) for item in site.arguments.positional]
    known = [item for item in lists if item is not None]
    if not known or len(known) != len(lists):
        return site.unknown("zip of run-time values")
    return Sequence.of(tuple(Sequence.of(row, site.place) for row in zip(*known, strict=False)), site.place)


def _enumerate(_: Machine, site: Site) -> Object:
    elements, start = elements_of(site.first()), plain_of(site.arguments.get("start", 1) or Scalar(0))
    if elements is None or not isinstance(start, int):
        return site.unknown("enumeration of run-time values")
    rows = (Sequence.of((computed(index, site.place), element)) for index, element in enumerate(elements, start))
    return Sequence.of(tuple(rows), site.place)


ITERATION_FUNCTIONS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        "list": _list,
        "tuple": _list,
        "set": _set,
        "frozenset": _set,
        "sorted": _sorted,
        "reversed": _reversed,
        "map": _map,
        "filter": _filter,
        "iter": _list,
        "next": _next,
        "range": _range,
        "zip": _zip,
        "enumerate": _enumerate,
    }
)

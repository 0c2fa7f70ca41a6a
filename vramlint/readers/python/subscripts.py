"""`item[key]`: reading and assigning."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.choices import each, narrow
from vramlint.readers.python.commandline.words import is_given, piece_of
from vramlint.readers.python.decisions import by_key, chosen
from vramlint.readers.python.instances import call_special
from vramlint.readers.python.iteration import tuple_elements
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.methods import lookup, store
from vramlint.readers.python.modules import part_of
from vramlint.readers.python.objects import (
    ITEMS,
    OPEN,
    Attribute,
    Choice,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    Scope,
    Sequence,
    Slot,
    computed,
)
from vramlint.readers.python.operators import reason_of
from vramlint.readers.python.probes import environment_variable, set_variable
from vramlint.text import Place
from vramlint.values import Name, Scalar, Unknown


def subscript(machine: Machine, item: Object, node: cst.Subscript, scope: Scope) -> Object:
    """The element that a subscript expression names."""
    place = machine.place(node)
    key = _key(machine, node, scope)
    if isinstance(item, Name):
        site = Site(item, Arguments(), node, scope, place)
        variable = environment_variable(machine, key or Unknown("variable"), None, site)
        unset = isinstance(variable, Scalar) and variable.value is None
        return site.unknown(f"environment variable {key.value}") if unset and isinstance(key, Scalar) else variable
    if key is None:
        return each(lambda one: _sliced(machine, one, node, scope, place), item)
    if isinstance(item, Instance):
        own = call_special(machine, item, "__getitem__", (key,), Site(item, Arguments(), node, scope, place))
        if own is not None:
            return own
        elements = tuple_elements(item)
        item = item.items or (item if elements is None else Sequence.of(elements, place))
    if _misses(item, key):
        machine.fail()
    found = each(lambda one, other: _element(one, other, place), narrow(item, machine.path), key)
    return chosen(machine, found, by_key(key, place)) if isinstance(item, Mapping) else found


def _key(machine: Machine, node: cst.Subscript, scope: Scope) -> Object | None:
    """The key of a single index, None for slices and several indices."""
    if len(node.slice) == 1 and isinstance(node.slice[0].slice, cst.Index):
        return narrow(machine.evaluate(node.slice[0].slice.value, scope), machine.path)
    return None


def _misses(item: Object, key: Object) -> bool:
    """Whether the element is surely not there."""
    if not isinstance(key, Scalar):
        return False
    if isinstance(item, Mapping):
        return not item.open and str(key.value) not in item.state
    count = len(item.elements) if isinstance(item, Sequence) and item.elements is not None else None
    return count is not None and isinstance(key.value, int) and not -count <= key.value < count


def _element(item: Object, key: Object, place: Place) -> Object:
    if isinstance(item, Mapping):
        return lookup(item, key, None, place)
    if isinstance(item, Instance) and isinstance(key, Scalar) and str(key.value) in item.state:
        held: Object = item.state[str(key.value)]
        return held
    index = key.value if isinstance(key, Scalar) else None
    if isinstance(item, Sequence) and item.elements is not None:
        if isinstance(index, int) and -len(item.elements) <= index < len(item.elements):
            return item.elements[index]
        return Unknown("element of a list", place)
    if isinstance(item, Scalar) and isinstance(item.value, str):
        if isinstance(index, int) and -len(item.value) <= index < len(item.value):
            return computed(item.value[index], place)
        return Unknown("element of a text", place)
    if isinstance(item, LibraryObject) and isinstance(key, Scalar):
        found = item.argument(f"[{key.value}]") or part_of(item, str(key.value))
        return Attribute(item, f"[{key.value}]", place) if found is None else found
    return Unknown(reason_of(item), place)


def _sliced(machine: Machine, item: Object, node: cst.Subscript, scope: Scope, place: Place) -> Object:
    bounds = node.slice[0].slice if len(node.slice) == 1 else None
    if not isinstance(bounds, cst.Slice):
        return Unknown("element of several indices", place)
    parts = []
    for bound in (bounds.lower, bounds.upper, bounds.step):
        value = Scalar(None) if bound is None else machine.evaluate(bound, scope)
        if not isinstance(value, Scalar) or not isinstance(value.value, (int, type(None))):
            return Unknown("slice with unknown bounds", place)
        parts.append(value.value)
    if parts[2] == 0:
        return Unknown("slice with step 0", place)
    cut = slice(*parts)
    if isinstance(item, Sequence) and item.elements is not None:
        return Sequence.of(item.elements[cut], place)
    if isinstance(item, Scalar) and isinstance(item.value, str):
        found = computed(item.value[cut], place)
        return piece_of(found, item) if is_given(item) else found
    return Unknown(reason_of(item), place)


def assign_element(machine: Machine, item: Object, node: cst.Subscript, value: Object, scope: Scope) -> None:
    """`item[key] = value`."""
    key = _key(machine, node, scope)
    for target in _possible(narrow(item, machine.path)):
        option = target.items if isinstance(target, Instance) and target.items is not None else target
        if isinstance(option, Mapping):
            if isinstance(key, Scalar):
                store(machine, option, str(key.value), Slot(key.place, value))
            else:
                machine.journal.put(option.state, OPEN, True)
        elif isinstance(option, Sequence):
            _assign_index(machine, option, key, value)
        elif isinstance(option, LibraryObject) and isinstance(key, Scalar):
            machine.bind(option, f"[{key.value}]", value, machine.place(node))
        elif isinstance(option, Name) and option.qualified == "os.environ" and isinstance(key, Scalar):
            # the call that Python makes of it: what a script sets for its launcher is worth knowing
            machine.emit(LibraryObject("os.environ.__setitem__", (key, value), (), machine.place(node)))
            set_variable(machine, key, value)


def delete_element(machine: Machine, item: Object, node: cst.Subscript, scope: Scope) -> None:
    """`del item[key]`."""
    key = _key(machine, node, scope)
    for option in _possible(narrow(item, machine.path)):
        if isinstance(option, Mapping):
            if isinstance(key, Scalar):
                machine.journal.remove(option.state, str(key.value))
            else:
                machine.journal.put(option.state, OPEN, True)
        elif isinstance(option, Sequence):
            machine.journal.put(option.state, ITEMS, Unknown("list that changes"))


def _possible(item: Object) -> tuple[Object, ...]:
    return tuple(option for option, _ in item.options) if isinstance(item, Choice) else (item,)


def _assign_index(machine: Machine, items: Sequence, key: Object | None, value: Object) -> None:
    elements = items.elements
    index = key.value if isinstance(key, Scalar) else None
    if elements is not None and isinstance(index, int) and -len(elements) <= index < len(elements):
        changed = list(elements)
        changed[index] = value
        machine.journal.put(items.state, ITEMS, tuple(changed))
    else:
        machine.journal.put(items.state, ITEMS, Unknown("list that changes"))

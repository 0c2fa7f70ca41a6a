"""Assigning to names, attributes, elements and tuples of them."""

from __future__ import annotations

from collections.abc import Sequence as Elements

import libcst as cst

from vramlint.readers.python.attributes import set_attribute
from vramlint.readers.python.choices import each, narrow
from vramlint.readers.python.iteration import tuple_elements
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import Attribute, Instance, LibraryObject, Object, Scope, Sequence
from vramlint.readers.python.operators import reason_of
from vramlint.readers.python.subscripts import assign_element
from vramlint.values import Scalar, Unknown


def assign(machine: Machine, target: cst.BaseExpression, value: Object, scope: Scope) -> None:
    """Bind a value to a target."""
    match target:
        case cst.Name():
            _assign_name(machine, target.value, value, scope)
        case cst.Attribute():
            _assign_attribute(machine, target, value, scope)
        case cst.Subscript():
            assign_element(machine, machine.evaluate(target.value, scope), target, value, scope)
        case cst.Tuple() | cst.List():
            _unpack(machine, target.elements, value, scope)
        case cst.StarredElement():
            assign(machine, target.value, value, scope)


def _assign_name(machine: Machine, name: str, value: Object, scope: Scope) -> None:
    owner = scope.outer_names.get(name, scope)
    if owner.kind == "module" and isinstance(value, Scalar) and value.via == "literal":
        value = Scalar(value.value, value.place, "module-constant")
    machine.journal.put(owner.state, name, value)


def _assign_attribute(machine: Machine, target: cst.Attribute, value: Object, scope: Scope) -> None:
    item = narrow(machine.evaluate(target.value, scope), machine.path)
    name, place = target.attr.value, machine.place(target)
    set_attribute(machine, item, name, value, place)
    # `model.config.use_cache = False` also stands at the model, whichever object its config is
    path, node = name, target.value
    while isinstance(node, cst.Attribute):
        path, node = f"{node.attr.value}.{path}", node.value
        root = narrow(machine.evaluate(node, scope), machine.path)
        if isinstance(root, LibraryObject) and not isinstance(item, Attribute):
            machine.bind(root, path, value, place)


def _unpack(machine: Machine, elements: Elements[cst.BaseElement], value: Object, scope: Scope) -> None:
    count = len(elements)
    starred = next((index for index, item in enumerate(elements) if isinstance(item, cst.StarredElement)), None)
    for index, element in enumerate(elements):

        def part(item: Object, index: int = index) -> Object:
            return _part(item, index, count, starred)

        assign(machine, element.value, each(part, narrow(value, machine.path)), scope)


def _part(item: Object, index: int, count: int, starred: int | None) -> Object:
    """What target `index` of `count` gets."""
    if isinstance(item, Sequence) and item.elements is not None:
        elements = item.elements
        if starred is None:
            return elements[index] if index < len(elements) else Unknown("too few values to unpack")
        after = count - starred - 1
        if index == starred:
            return Sequence.of(elements[starred : len(elements) - after], item.place)
        position = index if index < starred else len(elements) - (count - index)
        return elements[position] if 0 <= position < len(elements) else Unknown("too few values to unpack")
    if isinstance(item, Instance) and (fields := tuple_elements(item)) is not None:
        return _part(Sequence.of(fields), index, count, starred)
    if isinstance(item, LibraryObject):
        # the first of several results is nearly always the thing itself: an engine, a model
        return item if index == 0 else Attribute(item, f"[{index}]", item.place)
    return Unknown(reason_of(item))

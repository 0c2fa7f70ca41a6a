"""What objects of the project's classes do by their special methods and those of their kind."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from vramlint.readers.python.classes import construct, takes_fields
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import (
    BoundMethod,
    Class,
    Function,
    Given,
    Instance,
    Mapping,
    Object,
    Sequence,
    Slot,
)
from vramlint.values import Scalar, Unknown


def call_special(
    machine: Machine, item: Instance, name: str, arguments: tuple[Object, ...], site: Site
) -> Object | None:
    """What `__getitem__` or a relative gives, None where the class has none of its own."""
    method = item.kind.member(name) if item.kind else None
    if not isinstance(method, Function):
        return None
    return machine.invoke(site.of(BoundMethod(method, item), Arguments(arguments)))


def replaced(machine: Machine, item: Instance, changes: tuple[Given, ...], site: Site) -> Object:
    """A copy of an object with some fields changed; it is made as the first one was."""
    kind = item.kind
    if kind is None or not takes_fields(kind):
        changed = {given.name: given.value for given in changes}
        return Instance(kind, site.place, {**item.state, **changed})
    fields = {entry.name: item.state[entry.name] for entry in kind.all_fields() if entry.name in item.state}
    written = {given.name: given for given in changes}
    keywords = [written.get(name, Given(name, value)) for name, value in fields.items()]
    made = construct(machine, kind, site.of(kind, Arguments((), tuple(keywords))))
    if isinstance(made, Instance):
        for name, value in item.state.items():
            made.state.setdefault(name, value)
    return made


def fields_as_mapping(item: Object, site: Site) -> Object:
    """The fields of an object as a dict, those of objects in it too."""
    if isinstance(item, Instance):
        return Mapping(
            {name: Slot(None, fields_as_mapping(value, site)) for name, value in item.state.items()}, site.place
        )
    if isinstance(item, Sequence) and item.elements is not None:
        return Sequence.of(tuple(fields_as_mapping(element, site) for element in item.elements), item.place)
    return item


def _dumped(_: Machine, item: Instance, site: Site) -> Object:
    return fields_as_mapping(item, site)


def _changed(machine: Machine, item: Instance, site: Site) -> Object:
    update = site.arguments.get("update")
    changes = site.arguments.keywords
    if isinstance(update, Mapping):
        changes = tuple(Given(key, slot.value, slot.key_place) for key, slot in update.slots())
    elif update is not None:
        return site.unknown("copy with unknown changes")
    return replaced(machine, item, tuple(given for given in changes if given.name != "deep"), site)


_METHODS: MappingProxyType[str, Callable[[Machine, Instance, Site], Object]] = MappingProxyType(
    {
        "_asdict": _dumped,
        "dict": _dumped,
        "model_dump": _dumped,
        "_replace": _changed,
        "model_copy": _changed,
    }
)
"""Methods that named tuples and pydantic's models bring along."""


def brought_method(machine: Machine, item: Instance, name: str, site: Site) -> Object | None:
    """A method that the class has from its library base, None where it is not known."""
    method = _METHODS.get(name)
    if method is None or item.kind is None or not takes_fields(item.kind):
        return None
    return method(machine, item, site)


def field_list(kind: Class, site: Site) -> Object:
    """`dataclasses.fields(kind)`: objects with the name and the default of each field."""
    entries = []
    for entry in kind.all_fields():
        default = entry.spec.default or Unknown(f"default of {entry.name}")
        entries.append(Instance(None, site.place, {"name": Scalar(entry.name, entry.name_place), "default": default}))
    return Sequence.of(tuple(entries), site.place)


def copied(item: Object, done: dict[int, Object] | None = None) -> Object:
    """`copy.deepcopy(item)`; what libraries made stays one object."""
    done = {} if done is None else done
    if id(item) in done:
        return done[id(item)]
    if isinstance(item, Sequence):
        items = Sequence(dict(item.state), item.place)
        done[id(item)] = items
        if item.elements is not None:
            items.state.update(Sequence.of(tuple(copied(element, done) for element in item.elements)).state)
        return items
    if isinstance(item, Mapping):
        table = Mapping(
            dict(item.state), item.place, item.origin, attributes=item.attributes, written=dict(item.written)
        )
        done[id(item)] = table
        for key, slot in item.slots():
            table.state[key] = Slot(slot.key_place, copied(slot.value, done), slot.key)
        return table
    if isinstance(item, Instance):
        made = Instance(item.kind, item.place, {}, item.origins)
        done[id(item)] = made
        made.state.update({name: copied(value, done) for name, value in item.state.items()})
        own = copied(item.items, done) if item.items is not None else None
        made.items = own if isinstance(own, Mapping) else None
        return made
    return item

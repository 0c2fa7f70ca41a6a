"""Attributes by name, dataclass helpers, namespaces and copies."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from vramlint.readers.python.attributes import SETTER, get_attribute, set_attribute
from vramlint.readers.python.choices import each
from vramlint.readers.python.instances import copied, field_list, fields_as_mapping, replaced
from vramlint.readers.python.machine import Arguments, Handler, Machine, Site
from vramlint.readers.python.objects import (
    OPEN,
    Attribute,
    Class,
    FieldSpec,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    Sequence,
    Slot,
    computed,
)
from vramlint.readers.python.operators import reason_of
from vramlint.values import Name, Scalar, Unknown


def _getattr(machine: Machine, site: Site) -> Object:
    name = site.arguments.get("", 1)
    default = site.arguments.get("", 2)

    def looked_up(key: Object) -> Object:
        if not isinstance(key, Scalar) or not isinstance(key.value, str):
            return Unknown(reason_of(key), site.place)
        found = get_attribute(machine, site.first(), key.value, site)
        if isinstance(found, Name) and key.place is not None:
            return Name(found.qualified, key.place)  # written where the string is: "bfloat16"
        missing = isinstance(found, Attribute) and isinstance(found.receiver, (Instance, Mapping))
        from_parser = isinstance(site.first(), Instance) and isinstance(found, Unknown)
        return default if default is not None and (missing or from_parser) else found

    return each(looked_up, name) if name is not None else site.unknown("attribute")


def _setattr(machine: Machine, site: Site) -> Object:
    name, value = site.arguments.get("", 1), site.arguments.get("", 2)
    if isinstance(name, Scalar) and value is not None:
        set_attribute(machine, site.first(), str(name.value), value, name.place or site.place)
    return Scalar(None, None, "computed")


def _hasattr(_: Machine, site: Site) -> Object:
    item, name = site.first(), site.arguments.get("", 1)
    if isinstance(item, Mapping) and item.attributes and isinstance(name, Scalar) and not item.open:
        return computed(str(name.value) in item.state, site.place)
    if isinstance(item, Instance) and isinstance(name, Scalar):
        text = str(name.value)
        return computed(text in item.state or bool(item.kind and item.kind.member(text)), site.place)
    return site.unknown("attribute of a run-time value")


def _as_dict(_: Machine, site: Site) -> Object:
    item = site.first()
    return fields_as_mapping(item, site) if isinstance(item, Instance) else as_mapping(item, site)


def _fields(_: Machine, site: Site) -> Object:
    item = site.first()
    kind = item if isinstance(item, Class) else item.kind if isinstance(item, Instance) else None
    return site.unknown("fields of a run-time value") if kind is None else field_list(kind, site)


def _vars(_: Machine, site: Site) -> Object:
    return as_mapping(site.first(), site)


def as_mapping(item: Object, site: Site) -> Object:
    """The attributes of an object as a dict: `vars(x)`, `asdict(x)`, `x.__dict__`."""
    if isinstance(item, Instance):
        return Mapping({name: Slot(None, value) for name, value in item.state.items()}, site.place, backing=item)
    if isinstance(item, Class):
        members = {name: Slot(None, value) for name, value in item.scope.state.items() if not name.endswith(SETTER)}
        return Mapping(members, site.place)
    if isinstance(item, LibraryObject):
        state: dict[str, Any] = {given.name: Slot(given.name_place, given.value) for given in item.keywords}
        state |= {name: slot for name, slot in item.state.items() if isinstance(slot, Slot)}
        return Mapping({**state, OPEN: True}, site.place, item)
    return site.unknown("attributes of a run-time value")


def _replace(machine: Machine, site: Site) -> Object:
    item = site.first()
    if isinstance(item, Instance):
        return replaced(machine, item, site.arguments.keywords, site)
    if isinstance(item, LibraryObject):
        changed_names = {given.name for given in site.arguments.keywords}
        kept = tuple(given for given in item.keywords if given.name not in changed_names)
        made = LibraryObject(
            item.callee, item.args, (*kept, *site.arguments.keywords), site.place, item.receiver, item.local_class
        )
        made.state = {name: slot for name, slot in item.state.items() if name not in changed_names}
        return machine.emit(made)
    return site.unknown("copy of a run-time value")


def _field(_: Machine, site: Site) -> Object:
    default = site.arguments.get("default", 0)
    if isinstance(default, Name) and default.qualified in {"Ellipsis", "dataclasses.MISSING"}:
        default = None
    metadata = site.arguments.get("metadata")
    slot = metadata.state.get("aliases") if isinstance(metadata, Mapping) else None
    named = slot.value if isinstance(slot, Slot) else site.arguments.get("aliases")
    elements = named.elements if isinstance(named, Sequence) else (named,)
    flags = tuple(str(item.value) for item in elements or () if isinstance(item, Scalar))
    return FieldSpec(default, site.arguments.get("default_factory") or site.arguments.get("factory"), flags)


def _deep_copied(_: Machine, site: Site) -> Object:
    return copied(site.first())


def _copied(_: Machine, site: Site) -> Object:
    item = site.first()
    if isinstance(item, Sequence):
        return Sequence(dict(item.state), item.place)
    if isinstance(item, Mapping):
        return Mapping(dict(item.state), item.place, attributes=item.attributes)
    return Instance(item.kind, item.place, dict(item.state)) if isinstance(item, Instance) else item


def namespace_of(arguments: Arguments, site: Site) -> Instance:
    """`SimpleNamespace(...)`."""
    state = {given.name: given.value for given in arguments.keywords}
    first = arguments.get("", 0)
    if isinstance(first, Mapping):
        state = {key: slot.value for key, slot in first.slots()} | state
    return Instance(None, site.place, state, arguments.origins)


RECORD_FUNCTIONS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        "getattr": _getattr,
        "setattr": _setattr,
        "hasattr": _hasattr,
        "vars": _vars,
        "dataclasses.asdict": _as_dict,
        "attr.asdict": _as_dict,
        "attrs.asdict": _as_dict,
        "dataclasses.fields": _fields,
        "attr.evolve": _replace,
        "attrs.evolve": _replace,
        "attr.attrib": _field,
        "attr.field": _field,
        "attr.ib": _field,
        "attrs.field": _field,
        "msgspec.field": _field,
        "pydantic.fields.Field": _field,
        "dataclasses.replace": _replace,
        "dataclasses.field": _field,
        "pydantic.Field": _field,
        "transformers.hf_argparser.HfArg": _field,
        "transformers.HfArg": _field,
        "copy.copy": _copied,
        "copy.deepcopy": _deep_copied,
        "types.SimpleNamespace": lambda _, site: namespace_of(site.arguments, site),
        "argparse.Namespace": lambda _, site: namespace_of(site.arguments, site),
    }
)

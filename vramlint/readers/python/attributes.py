"""Reading and assigning attributes."""

from __future__ import annotations

from vramlint.readers.python.choices import each, narrow
from vramlint.readers.python.classes import library_base
from vramlint.readers.python.enums import member_name
from vramlint.readers.python.lazy import Module
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.methods import is_mapping_method
from vramlint.readers.python.modules import part_of
from vramlint.readers.python.objects import (
    NOT_GIVEN,
    Attribute,
    BoundMethod,
    Choice,
    Class,
    Function,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    Sequence,
    Slot,
    computed,
)
from vramlint.readers.python.patches import note_patch
from vramlint.readers.python.paths import path_attribute
from vramlint.readers.python.probes import attribute_probe, library_default
from vramlint.readers.python.searches import run_config
from vramlint.readers.python.truth import DTYPES
from vramlint.text import Place
from vramlint.values import Name, Scalar, Unknown

_WRAPPERS = (".DistributedDataParallel", ".DataParallel", ".FullyShardedDataParallel")
"""Modules of torch that keep the one that they wrap as `module`."""
_LOADERS = ("from_pretrained", "from_config", "_from_config")
SETTER = ".setter"
"""What is added to a property's name for the function that sets it."""

PARAMETER = ".parameter"
"""What a loop over the parameters of a module yields: an object whose receiver is the module."""


def get_attribute(machine: Machine, item: Object, name: str, site: Site) -> Object:
    """`item.name`; an `Attribute` when only run time knows it."""
    if not isinstance(item, Choice):
        return _get(machine, item, name, site)
    return each(lambda one: _get(machine, one, name, site), narrow(item, machine.path))


def _get(machine: Machine, item: Object, name: str, site: Site) -> Object:
    match item:
        case Name() if name in {"__name__", "__qualname__"}:
            return computed(item.qualified.rpartition(".")[2], site.place)
        case Name() if name == "is_floating_point" and item.qualified in DTYPES:
            return computed(DTYPES[item.qualified], site.place)
        case Name(qualified="wandb") if name == "config" and (config := run_config(machine, site.place)) is not None:
            return config
        case Name():
            return attribute_probe(machine, f"{item.qualified}.{name}", site.place)
        case Module():
            found: Object | None = item.member(name)
            return Name(f"{item.name}.{name}", site.place) if found is None else found
        case Instance():
            return _of_instance(machine, item, name, site)
        case Class():
            member = item.member(name)
            if isinstance(member, Function) and member.decorated_with("classmethod"):
                return BoundMethod(member, item)
            return member if member is not None else _of_class(item, name, site)
        case LibraryObject():
            return _of_library(machine, item, name, site)
        case Mapping() if item.attributes:
            return _of_config(item, name, site)
        case Scalar():
            return _of_scalar(machine, item, name, site)
        case Function() if name == "__name__":
            return computed(item.name, site.place)
    return Attribute(item, name, site.place)


def _of_config(item: Mapping, name: str, site: Site) -> Object:
    """A key of a config as an attribute; a method of dicts where it has no such key."""
    slot = item.state.get(name)
    if isinstance(slot, Slot):
        return slot.value
    if item.open and not is_mapping_method(name):
        return Unknown(f"key {name}", site.place)
    return Attribute(item, name, site.place)


def _of_scalar(machine: Machine, item: Scalar, name: str, site: Site) -> Object:
    """Attributes of members of enumerations, and of paths."""
    member = member_name(machine, item)
    if member is not None and name in {"value", "_value_"}:
        return item
    if member is not None and name in {"name", "_name_"}:
        return computed(member, item.place)
    found = path_attribute(item, name)
    return Attribute(item, name, site.place) if found is None else found


def _of_class(item: Class, name: str, site: Site) -> Object:
    """What a class has without its body saying so."""
    if name in {"__name__", "__qualname__"}:
        return computed(item.name, site.place)
    if name == "__members__":
        return Mapping({key: Slot(None, member) for key, member in item.members.items()}, site.place)
    if item.instances and name == "_fields":
        return Sequence.of(tuple(computed(entry.name, entry.name_place) for entry in item.all_fields()), site.place)
    return _of_base(item, name, site)


def _of_base(item: Class, name: str, site: Site) -> Object:
    """A class attribute that the file does not define: the library base's."""
    base = library_base(item)
    if base is None:
        return Unknown(f"{name} of {item.name}", site.place)
    if name in _LOADERS and base.endswith(".PreTrainedModel"):
        return Name(f"transformers.{item.name}.{name}", site.place)  # a copy of a model's code is what its name says
    return Name(f"{base}.{name}", site.place)


def _of_instance(machine: Machine, item: Instance, name: str, site: Site) -> Object:
    if name in item.state:
        return narrow(item.state[name], machine.path)
    if name == "__class__" and item.kind is not None:
        return item.kind
    member = item.kind.member(name) if item.kind else None
    if member is None:
        for origin in item.origins:
            found = _of_library(machine, origin, name, site)
            if not isinstance(found, Attribute):
                return found
        if item.kind is None:
            return Unknown(f"command line: {name}", site.place)
        if item.items is not None and name in item.items.state:
            slot: Slot = item.items.state[name]
            return narrow(slot.value, machine.path)
        dynamic = item.kind.member("__getattr__")
        if isinstance(dynamic, Function) and not name.startswith("__"):
            key = (computed(name, site.place),)
            return machine.invoke(site.of(BoundMethod(dynamic, item), Arguments(key)))
        return Attribute(item, name, site.place)
    return _bound(machine, member, item, site)


def _bound(machine: Machine, member: Object, owner: Object, site: Site) -> Object:
    if not isinstance(member, Function) or member.decorated_with("staticmethod"):
        return member
    method = BoundMethod(member, owner)
    if member.decorated_with("property", "cached_property"):
        return machine.invoke(site.of(method, Arguments()))
    return method


_METHODS = ("get_", "set_", "to_", "main_process_first", "_")
"""How methods of the libraries' argument classes begin; other attributes are what the command line may set."""


def _of_library(machine: Machine, item: LibraryObject, name: str, site: Site) -> Object:
    written = item.argument(name)
    if name == "config" and item.callee == "wandb.init":
        written = run_config(machine, site.place) or written
    if written is not None and written is not NOT_GIVEN:
        return narrow(written, machine.path)
    if name == "module" and item.args and item.callee.endswith(_WRAPPERS):
        return item.args[0]
    part = part_of(item, name)
    if part is not None:
        return part
    member = item.local_class.member(name) if item.local_class else None
    if member is not None:
        return _bound(machine, member, item, site)
    default = None if item.open else library_default(machine, item.callee, name, site.place)
    if default is None and item.hidden is not None and not name.startswith(_METHODS):
        return item.hidden
    return Attribute(item, name, site.place) if default is None else default


def set_attribute(machine: Machine, item: Object, name: str, value: Object, place: Place) -> None:
    """`item.name = value`."""
    trains = isinstance(value, Scalar) and value.value is True
    module = item.receiver if isinstance(item, LibraryObject) and item.callee == PARAMETER else None
    if name == "requires_grad" and (module is not None or not trains):
        # the same as the method, by which the parameters of a model are frozen elsewhere
        known = module if isinstance(value, Scalar) else None
        machine.emit(LibraryObject(".requires_grad_", (Scalar(trains, place),), (), place, receiver=known))
    match item:
        case Instance():
            _set_on_instance(machine, item, name, value, place)
        case Class():
            machine.journal.put(item.scope.state, name, value)
        case Module():
            item.assign(name, value)
        case Mapping() if item.attributes:
            machine.journal.put(item.state, name, Slot(place, value))
        case Name(qualified="sys") if name == "argv" and isinstance(value, Sequence):
            machine.journal.put(machine.process, "argv", value)
        case Name():
            note_patch(machine, f"{item.qualified}.{name}", value, place)
        case LibraryObject():
            machine.bind(item, name, value, place)
        case Attribute():
            _bind_path(machine, item, name, value, place)
        case Choice():
            # each of the possible objects takes the value, whichever it turns out to be
            for option, _ in item.options:
                set_attribute(machine, option, name, value, place)


def _set_on_instance(machine: Machine, item: Instance, name: str, value: Object, place: Place) -> None:
    setter = item.kind.member(f"{name}{SETTER}") if item.kind else None
    if isinstance(setter, Function) and not any(frame.function is setter for frame in machine.frames):
        machine.invoke(Site(BoundMethod(setter, item), Arguments((value,)), setter.node, setter.scope, place))
        return
    machine.journal.put(item.state, name, value)
    if item.items is not None:
        machine.journal.put(item.items.state, name, Slot(place, value))


def _bind_path(machine: Machine, item: Attribute, name: str, value: Object, place: Place) -> None:
    parts = [name, item.name]
    receiver = item.receiver
    while isinstance(receiver, Attribute):
        parts.append(receiver.name)
        receiver = receiver.receiver
    if isinstance(receiver, LibraryObject):
        machine.bind(receiver, ".".join(reversed(parts)), value, place)

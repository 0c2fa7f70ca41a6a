"""What objects yield when a program goes through them."""

from __future__ import annotations

from vramlint.readers.python.objects import Class, Instance, Mapping, Object, Sequence, computed
from vramlint.values import Scalar, Unknown


def elements_of(source: Object) -> tuple[Object, ...] | None:
    """What a loop over an object yields, None where that is not known."""
    if isinstance(source, Mapping):
        return None if source.open else tuple(slot.key_object(key) for key, slot in source.slots())
    if isinstance(source, Instance):
        return elements_of(source.items) if source.items is not None else tuple_elements(source)
    if isinstance(source, Class) and source.members:
        return tuple(source.members.values())
    if isinstance(source, Scalar) and isinstance(source.value, str):
        return tuple(computed(letter, source.place) for letter in source.value)
    return source.elements if isinstance(source, Sequence) else None


def tuple_elements(item: Instance) -> tuple[Object, ...] | None:
    """The elements of a named tuple, in order."""
    kind = item.kind
    if kind is None or not any(name.rpartition(".")[2] == "NamedTuple" for name in kind.base_names()):
        return None
    return tuple(item.state.get(entry.name, Unknown(f"{entry.name} of {kind.name}")) for entry in kind.all_fields())

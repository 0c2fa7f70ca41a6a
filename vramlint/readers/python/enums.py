"""Enumerations: their members are their values, which know their names."""

from __future__ import annotations

from vramlint.readers.python.classes import library_base
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import Class, LibraryObject, Object
from vramlint.values import Scalar

_BASES = frozenset({"Enum", "Flag", "IntEnum", "IntFlag", "StrEnum", "MultiValueEnum"})


def is_enum(kind: Class) -> bool:
    """Whether a class is an enumeration."""
    return any(name.rpartition(".")[2] in _BASES for name in kind.base_names()) and library_base(kind) is None


def define_members(machine: Machine, kind: Class) -> None:
    """Give every member its name. `auto()` counts; in a StrEnum it is the name in lower case."""
    texts = any(name.endswith("StrEnum") for name in kind.base_names())
    state = kind.scope.state
    for number, (name, value) in enumerate(list(state.items()), start=1):
        counted = isinstance(value, LibraryObject) and value.callee.rpartition(".")[2] == "auto"
        plain = value.value if isinstance(value, Scalar) else (name.lower() if texts else number) if counted else None
        if name.startswith("_") or plain is None:
            continue
        member = Scalar(plain, value.place, "computed")  # an object of its own, which the name goes with
        state[name] = member
        kind.members[name] = member
        machine.members[id(member)] = member, name


def member_name(machine: Machine, item: Scalar) -> str | None:
    """The name of a member, None for other values."""
    found = machine.members.get(id(item))
    return found[1] if found is not None else None


def member_of(kind: Class, value: Object) -> Object | None:
    """The member that `Kind(value)` or `Kind[name]` gives, whichever there is."""
    if not isinstance(value, Scalar):
        return None
    by_value = (
        member for member in kind.members.values() if isinstance(member, Scalar) and member.value == value.value
    )
    return next(by_value, None) or kind.members.get(str(value.value))

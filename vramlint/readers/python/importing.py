"""Imports LibCST without the constructors of its 210 classes of nodes, of which a run calls a few.

More than half of `import libcst` (1.9.0, Python 3.11: 0.2 to 0.3 s) goes into the constructors that `dataclasses`
writes and compiles. Here each class of nodes gets one that is made at its first call.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_complete = dataclasses.dataclass
_OWN = ("__eq__", "__hash__", "__repr__")
"""What `libcst.CSTNode` puts into each of its classes itself, which leaves `dataclasses` the constructor."""


def _declared(kind: type[Any] | None = None, /, **options: bool) -> object:
    """Stands for `dataclasses.dataclass` and differs from it for LibCST's nodes only."""
    if kind is None:
        return lambda declared: _declared(declared, **options)
    if not (options.get("frozen") and _is_node(kind)):
        return _complete(kind, **options)
    kind.__doc__ = kind.__doc__ or kind.__name__  # `dataclasses` would make one of the constructor's signature
    node: Any = _complete(kind, **options | {"init": False, "repr": False, "eq": False, "frozen": False})
    node.__init__ = _made_when_called()
    node.__setattr__ = node.__delattr__ = _refuse
    return node


def _is_node(kind: type[Any]) -> bool:
    return kind.__module__.startswith("libcst.") and all(name in vars(kind) for name in _OWN)


def _made_when_called() -> Callable[..., None]:
    def construct(self: object, *values: object, **named: object) -> None:
        # the class that declares it, which `libcst._add_slots` made anew of the declared one
        kind: Any = next(kind for kind in type(self).__mro__ if vars(kind).get("__init__") is construct)
        kind.__init__ = _constructor(kind)
        kind.__init__(self, *values, **named)

    return construct


def _constructor(kind: type[Any]) -> Callable[..., None]:
    """What `dataclasses` makes of the fields of a class."""
    fields = dataclasses.fields(kind)
    names = {field.name: field for field in fields} | {"__post_init__": kind.__post_init__}
    twin = type(kind.__name__, (), {"__annotations__": {field.name: field.type for field in fields}, **names})
    made: Callable[..., None] = _complete(twin, frozen=True, repr=False, eq=False).__init__  # type: ignore[misc]
    return made


def _refuse(self: object, name: str, *_: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot change field {name!r}")


@contextmanager
def _lighter_nodes() -> Iterator[None]:
    dataclasses.dataclass = _declared  # type: ignore[assignment]
    try:
        yield
    finally:
        dataclasses.dataclass = _complete


def bring_in() -> None:
    """Import LibCST: as it comes where it declares its nodes in another way than it did."""
    try:
        with _lighter_nodes():
            importlib.import_module("libcst")
    except TypeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "libcst"]:
            del sys.modules[name]
        importlib.import_module("libcst")


bring_in()

"""Attributes and methods of paths, which are kept as their text."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import PurePosixPath
from types import MappingProxyType

from vramlint.readers.python.choices import each
from vramlint.readers.python.machine import Handler, Machine, Site
from vramlint.readers.python.objects import Object, Sequence, computed
from vramlint.values import Scalar

_ATTRIBUTES: MappingProxyType[str, Callable[[PurePosixPath], str]] = MappingProxyType(
    {
        "name": lambda path: path.name,
        "parent": lambda path: str(path.parent),
        "stem": lambda path: path.stem,
        "suffix": lambda path: path.suffix,
    }
)


def path_attribute(text: Scalar, name: str) -> Object | None:
    """`Path(...).name` and the like, where the path is written; None for what paths don't have."""
    place = text.place
    if not isinstance(text.value, str):
        return None
    path = PurePosixPath(text.value)
    if name == "parents":
        return Sequence.of(tuple(computed(str(parent), place) for parent in path.parents), place)
    if name == "parts":
        return Sequence.of(tuple(computed(part, place) for part in path.parts), place)
    attribute = _ATTRIBUTES.get(name)
    return None if attribute is None else Scalar(attribute(path), place, text.via)


def path_method(name: str, text: Scalar, site: Site) -> Object | None:
    """`Path(...).with_suffix(...)` and `with_name`, None for other methods."""
    new = site.first()
    if name not in {"with_name", "with_suffix"} or not isinstance(text.value, str) or not isinstance(new, Scalar):
        return None
    try:
        path = PurePosixPath(text.value)
        made = path.with_name(str(new.value)) if name == "with_name" else path.with_suffix(str(new.value))
    except ValueError:
        return site.unknown("path that cannot be")
    return computed(str(made), site.place)


def _of_text(function: Callable[[str], object]) -> Handler:
    def applied(_: Machine, site: Site) -> Object:
        def work(item: Object) -> Object:
            if not isinstance(item, Scalar) or not isinstance(item.value, str):
                return site.unknown("path with unknown parts")
            found = function(item.value)
            if isinstance(found, tuple):
                return Sequence.of(tuple(computed(part, site.place) for part in found), site.place)
            return computed(str(found), site.place)

        return each(work, site.first())

    return applied


PATH_FUNCTIONS: MappingProxyType[str, Handler] = MappingProxyType(
    {
        f"{module}.{name}": _of_text(getattr(posixpath, name))
        for module in ("os.path", "posixpath")
        for name in ("basename", "dirname", "split", "splitext")
    }
)

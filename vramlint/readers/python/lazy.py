"""Objects of the project's other modules, which are worked out when something asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct


class Pending(Struct, frozen=True):
    """A name imported from another module of the project. A scope replaces it by what it resolves to."""

    resolve: Callable[[], Any]


class Module(Struct, eq=False):
    """A module or package of the project."""

    name: str
    """As it is imported from where the script stands: `pkg.sub`, `.sub`."""
    path: str
    """Its file; empty for a folder without `__init__.py`."""
    member: Callable[[str], Any]
    """The object of that name in it, None where it has none."""
    assign: Callable[[str, Any], None]
    """Bind a name in it from outside."""

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        if not self.path or self.path.replace("\\", "/").endswith("/__init__.py"):
            return self.name
        dots = self.name[: len(self.name) - len(self.name.lstrip("."))]
        return f"{dots}{self.name[len(dots) :].rpartition('.')[0]}"

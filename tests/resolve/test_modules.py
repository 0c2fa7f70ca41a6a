"""Which file of the project a module's name stands for."""

from __future__ import annotations

import posixpath

import pytest

from vramlint.resolve.context import Context, find_module
from vramlint.text import Document

FILES = (
    "shop/train/run.py",
    "shop/train/arguments.py",
    "shop/settings.py",
    "shop/models/__init__.py",
    "shop/models/net.py",
    "src/kit/__init__.py",
    "src/kit/tools.py",
    "plain/deep/leaf.py",
    "both.py",
    "both/__init__.py",
)


def load(path: str) -> Document | None:
    return Document.of(path, "") if path in FILES else None


def names(folder: str) -> tuple[str, ...]:
    inside = [posixpath.relpath(path, folder) for path in FILES]
    return tuple({path.partition("/")[0] for path in inside if not path.startswith("..")})


@pytest.mark.parametrize("listing", [names, lambda _: ()])
@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("arguments", "shop/train/arguments.py"),
        (".arguments", "shop/train/arguments.py"),
        ("..settings", "shop/settings.py"),
        ("shop.settings", "shop/settings.py"),
        ("shop.models", "shop/models/__init__.py"),
        ("shop.models.net", "shop/models/net.py"),
        ("..models", "shop/models/__init__.py"),
        ("kit", "src/kit/__init__.py"),
        ("kit.tools", "src/kit/tools.py"),
        ("plain.deep.leaf", "plain/deep/leaf.py"),
        ("both", "both/__init__.py"),
        ("plain", None),
        ("torch", None),
        (".", None),
        ("....settings", None),
    ],
)
def test_a_module_is_looked_for_as_python_does(module: str, wanted: str | None, listing: object) -> None:
    context = Context(load=load, names=listing)  # type: ignore[arg-type]
    found = find_module("shop/train/run.py", context, module)
    assert (found.path if found else None) == wanted

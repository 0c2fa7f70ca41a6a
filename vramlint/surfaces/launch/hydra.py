"""Hydra's own options on a command line: which configuration a program reads."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from vramlint.patterns import lazy
from vramlint.text import Place
from vramlint.values import Invocation, Scalar, Unknown, Value

_OPTIONS = MappingProxyType(
    {"--config-path": "path", "-cp": "path", "--config-dir": "path", "--config-name": "name", "-cn": "name"}
)

_PACKAGED = lazy(r"(?:^|/)verl/trainer/config/?$")
"""Folders of configurations that come with a package, whose defaults the tables of keys have."""


def hydra_files(invocation: Invocation) -> Iterator[tuple[str, Place | None]]:
    """The YAML that Hydra reads, where it lies outside of the program's own package: only then a path is named.

    A path that begins with what only run time knows, as `$(pwd)/configs`, is taken from there on.
    """
    given: dict[str, tuple[str, Place | None]] = {}
    takes = ""
    for word in invocation.arguments:
        text = _text(word)
        head, equals, tail = text.partition("=")
        if takes:
            given[takes] = (text, word.place)
        elif equals and head in _OPTIONS:
            given[_OPTIONS[head]] = (tail, word.place)
        takes = _OPTIONS.get(head, "") if not equals and not takes else ""
    path, name = given.get("path"), given.get("name")
    if path is None or name is None or path[0].strip("./") in ("", "config") or _PACKAGED.search(path[0]):
        return
    file = name[0] if name[0].endswith((".yaml", ".yml")) else f"{name[0]}.yaml"
    yield f"{path[0].removeprefix('file://').rstrip('/')}/{file}", name[1]


def _text(word: Value) -> str:
    if isinstance(word, Scalar):
        return word.value if isinstance(word.value, str) else ""
    if isinstance(word, Unknown) and word.suffix:
        option = f"{word.prefix.partition('=')[0]}=" if word.prefix.startswith("-") else ""
        return option + word.suffix.lstrip("/")
    return ""

"""Files of data that a program writes from objects of its own: `json.dump(args, open("train.json", "w"))`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vramlint.text import Document
from vramlint.values import Call, Program, Scalar, Table, Value, WrittenFile

_DUMPS = ("json.dump", "yaml.dump", "yaml.safe_dump", "toml.dump")
_SAVES = ("omegaconf.OmegaConf.save",)
"""What takes a path where the others take an open file."""


def dumped(program: Program, document: Document) -> tuple[WrittenFile, ...]:
    """The files that a program writes so, as trees whose places are in the program.

    Args:
        program: what it does.
        document: its own file.
    """
    return tuple(_files(program, document))


def _files(program: Program, document: Document) -> Iterator[WrittenFile]:
    for call in program.calls:
        if (call.callee not in _DUMPS and call.callee not in _SAVES) or len(call.args) < 2:
            continue
        what, where = call.args[:2]
        name = _opened(where) if call.callee in _DUMPS else where
        if isinstance(what, Table) and isinstance(name, Scalar) and isinstance(name.value, str):
            yield WrittenFile(name, replace(document, tree=what), call.place)


def _opened(file: Value) -> Value | None:
    """The path of `open("a.json", "w")` and `Path("a.json").open("w")`."""
    if not isinstance(file, Call):
        return None
    if file.callee == "open":
        return file.argument("file", 0)
    return file.receiver if file.callee == ".open" else None

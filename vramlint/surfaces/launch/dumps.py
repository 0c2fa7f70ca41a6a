"""Files of data that a program writes from objects of its own: `json.dump(args, open("train.json", "w"))`."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vramlint.text import Document
from vramlint.values import Call, Program, Scalar, Table, Value, WrittenFile

_DUMPS = ("json.dump", "yaml.dump", "yaml.safe_dump", "toml.dump")
_SAVES = ("omegaconf.OmegaConf.save",)
"""What takes a path where the others take an open file."""


_TEXTS = ("json.dumps", "yaml.dump", "yaml.safe_dump", "toml.dumps")
"""What makes a text that is then written by itself: `Path("a.yaml").write_text(yaml.dump(args))`."""


def dumped(program: Program, document: Document) -> tuple[WrittenFile, ...]:
    """The files that a program writes so, as trees whose places are in the program.

    Args:
        program: what it does.
        document: its own file.
    """
    return tuple(_files(program, document))


def _files(program: Program, document: Document) -> Iterator[WrittenFile]:
    for call in program.calls:
        what, name = _written(call)
        if isinstance(name, Scalar) and isinstance(name.value, str):
            yield WrittenFile(name, replace(document, tree=what) if isinstance(what, Table) else None, call.place)


def _written(call: Call) -> tuple[Value | None, Value | None]:
    """What a call writes, and the path of the file."""
    first = call.args[0] if call.args else None
    if call.callee in (".write_text", ".write"):
        text = first if isinstance(first, Call) and first.callee in _TEXTS and first.args else None
        name = call.receiver if call.callee == ".write_text" else _opened(call.receiver)
        return text.args[0] if text is not None else None, name
    if len(call.args) < 2 or call.callee not in (*_DUMPS, *_SAVES):
        return None, None
    return first, _opened(call.args[1]) if call.callee in _DUMPS else call.args[1]


def _opened(file: Value | None) -> Value | None:
    """The path of `open("a.json", "w")` and `Path("a.json").open("w")`."""
    if not isinstance(file, Call):
        return None
    if file.callee == "open":
        return file.argument("file", 0)
    return file.receiver if file.callee == ".open" else None

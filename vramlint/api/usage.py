"""How a script says itself that it is started: the command in its docstring or in the comments at its head."""

from __future__ import annotations

import posixpath

from msgspec.structs import replace

from vramlint.api.loading import Shells
from vramlint.facts import Sheet
from vramlint.patterns import lazy
from vramlint.surfaces.launch import Launch, Workload, launched, launches
from vramlint.text import Document, masked

_CODE = lazy(r"(?m)^(?:import|from|def|class|@|if|for|with|try)\b")
_COMMAND = lazy(
    r"(?m)^[ \t]*(?:#[ \t]*)?(?:\$[ \t]*)?"
    r"((?:[A-Z_]+=\S+[ \t]+)*(?:accelerate[ \t]+launch|torchrun|deepspeed|python[\d.]*)\b(?:[^\\\n]|\\\n)*)"
)
_SIZES = ("world_size", "nodes", "gpus_per_node")
_NEXT_LINE = lazy(r"\\\n([ \t]*#)")


def with_usage(sheet: Sheet, document: Document, shells: Shells, *, sized: bool = False) -> Sheet:
    """The sheet of a script with what the launcher in front of its usage adds: processes, how they share the model.

    Its arguments there are examples and are left out, as are its numbers of GPUs and machines where the user has
    `sized` the run. Nothing is added where several ways to start it are shown.
    """
    ways = [launch for launch in _shown(document, shells) if _names(launch, document)]
    settings = {(launch.links, launch.tables, _launcher(launch)) for launch in ways}
    if len(settings) != 1 or _launcher(ways[0]) == "python":
        return sheet
    left_out = ("entry", *_SIZES) if sized else ("entry",)
    facts = tuple(fact for fact in ways[0].facts if fact.name not in left_out)
    return launched(sheet, replace(ways[0], facts=facts))


def _shown(document: Document, shells: Shells) -> tuple[Launch, ...]:
    code = _CODE.search(document.text)
    head = document.text[: code.start()] if code else document.text
    spans = [document.span(*match.span(1)) for match in _COMMAND.finditer(head)]
    if not spans:
        return ()
    text = masked(document, spans)
    plain = Document.of(text.path, _NEXT_LINE.sub(lambda match: "\\\n" + " " * len(match[1]), text.text))
    shell, _ = shells(plain)
    return launches(Workload(document.path, "", shell.commands))


def _names(launch: Launch, document: Document) -> bool:
    """Whether a command starts the script itself."""
    name = f"{launch.program.rpartition('.')[2]}.py" if launch.kind == "module" else posixpath.basename(launch.program)
    return name == posixpath.basename(document.path)


def _launcher(launch: Launch) -> object:
    return next((fact.value for fact in launch.facts if fact.name == "launcher"), None)

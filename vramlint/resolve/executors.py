"""Files of bare assignments, and the script that executes them over its own settings.

`config/small.py` says `n_layer = 6` and nothing else; `train.py` beside or above it runs
`exec(open(sys.argv[1]).read())`, by itself or through a helper that it executes first. The job is the script's.
"""

from __future__ import annotations

import posixpath

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.resolve.context import Context, ancestors
from vramlint.text import Document
from vramlint.values import Invocation, Items, Program, Scalar

_EXECUTES = lazy(r"\bexec\s*\(\s*(open\s*\(|Path\s*\(|pathlib\.Path\s*\(|compile\s*\(|\w+\s*\))")
"""How a script runs the text of another file."""
_HELPER = lazy(r"\bexec\s*\(\s*open\s*\(\s*(?:os\.path\.join\([^()]*,\s*)?(['\"])(?P<path>[^'\"]+\.py)\1")
_NAMING = frozenset(("datetime", "os", "random", "time", "uuid"))
"""Modules of which settings make the names of runs and folders."""
_CLI = lazy(r"\bLightningCLI\s*\(")
"""How a program takes settings for the Trainer, its module and its data."""
_WORDS = "sys.argv"
_SCRIPTS = ("train.py", "main.py", "pretrain.py", "finetune.py", "run.py")
"""What such scripts are called; other files of the folder are looked at after these."""
_MOST = 40
"""Files of one folder that are looked into."""


class Executor(Struct, frozen=True):
    """A script, and the command line with which it takes the settings."""

    script: Document
    invocation: Invocation


def is_bare(program: Program) -> bool:
    """Whether a file holds assignments of plain values and nothing else, names with the time in them aside."""
    if program.settings or not program.constants or not _NAMING.issuperset(program.imports):
        return False
    plain = [isinstance(entry.value, (Scalar, Items)) for entry in program.constants]
    if not program.calls:
        return all(plain)
    return any(plain) and all(call.callee.partition(".")[0] in _NAMING for call in program.calls)


def executor_of(path: str, context: Context) -> Executor | None:
    """The script that executes the bare settings at `path`: of its own folder or of one above, the nearest first."""
    for folder in ancestors(path, context.root):
        for name in _names(folder, context):
            script = posixpath.normpath(posixpath.join(folder, name))
            if script == posixpath.normpath(path):
                continue
            document = context.load(script)
            if document is not None and executes(document, folder, context):
                word = posixpath.relpath(posixpath.normpath(path), folder)
                return Executor(document, Invocation((Scalar(word, None, "cli"),)))
    return None


def cli_of(path: str, context: Context) -> Executor | None:
    """The program with a LightningCLI that takes the settings at `path`: the nearest, from its folder upwards."""
    for folder in ancestors(path, context.root):
        for name in _names(folder, context):
            document = context.load(posixpath.normpath(posixpath.join(folder, name)))
            if document is not None and _CLI.search(document.text):
                word = posixpath.relpath(posixpath.normpath(path), folder)
                words = ("fit", "--config", word)
                return Executor(document, Invocation(tuple([Scalar(item, None, "cli") for item in words])))
    return None


def executes(document: Document, folder: str, context: Context) -> bool:
    """Whether a script runs files that its command line names, itself or by a helper that it runs."""
    if not _EXECUTES.search(document.text):
        return False
    if _WORDS in document.text:
        return True
    for match in _HELPER.finditer(document.text):
        helper = context.load(posixpath.normpath(posixpath.join(folder, match["path"])))
        if helper is not None and _WORDS in helper.text and _EXECUTES.search(helper.text):
            return True
    return False


def _names(folder: str, context: Context) -> tuple[str, ...]:
    present = [name for name in context.names(folder) if name.endswith(".py")]
    usual = [name for name in _SCRIPTS if name in present]
    return tuple(dict.fromkeys((*usual, *sorted(present))))[:_MOST]

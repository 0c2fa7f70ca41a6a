"""Commands that the shell does itself."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from vramlint.patterns import lazy
from vramlint.readers.shell import calculation, conditions, reading
from vramlint.readers.shell.evaluation import evaluate
from vramlint.readers.shell.invoked import Invoked
from vramlint.readers.shell.machine import DEEPEST, NO, OPEN, YES, Machine, Outcome, composed
from vramlint.readers.shell.parameters import kept
from vramlint.readers.shell.pieces import Fork, Hole, Piece, Pieces, Text, chosen, known, variants, written
from vramlint.readers.shell.source import Range, Source
from vramlint.readers.shell.state import Arguments

Builtin = Callable[[Machine, Invoked], Outcome]


def _true(machine: Machine, invoked: Invoked) -> Outcome:
    return YES


def _false(machine: Machine, invoked: Invoked) -> Outcome:
    return NO


def _test(machine: Machine, invoked: Invoked) -> Outcome:
    words = invoked.arguments()
    if invoked.name == "[" and words and known(words[-1]) == "]":
        words = words[:-1]
    return conditions.bracket(machine, words)


def _end(machine: Machine, invoked: Invoked) -> Outcome:
    machine.state.ended = invoked.name
    texts = invoked.texts()
    return NO if texts and texts[0] not in ("0", None) and invoked.name == "return" else YES


def _unset(machine: Machine, invoked: Invoked) -> Outcome:
    for text in invoked.texts():
        if text and not text.startswith("-"):
            machine.state.variables.pop(text, None)
            machine.state.exported.pop(text, None)
            machine.state.functions.pop(text, None)
            machine.state.mentioned.add(text)
    return YES


def _let(machine: Machine, invoked: Invoked) -> Outcome:
    outcome = YES
    source = machine.source
    for item, _, _ in invoked.words[1:]:
        text = None if isinstance(item, Fork) else known(item)
        if text is None or isinstance(item, Fork):
            outcome = OPEN
            continue
        machine.source = composed(item)
        value = known(calculation.calculated(machine, 0, len(text), machine.here(0, len(text)), quoted_=True))
        machine.source = source
        outcome = OPEN if value is None else NO if value == "0" else YES
    return outcome


def _set(machine: Machine, invoked: Invoked) -> Outcome:
    """`set -- a b` sets the arguments; options change nothing that is followed here."""
    texts = invoked.texts()
    words = [item for item, _, _ in invoked.words[1:]]
    for index, text in enumerate(texts):
        if text in ("--", "-"):
            machine.state.arguments = Arguments(tuple(kept(item) for item in words[index + 1 :]))
            return YES
        if text is None or not text.startswith(("-", "+")):
            if index and (texts[index - 1] or "").endswith("o"):
                continue
            machine.state.arguments = Arguments(tuple(kept(item) for item in words[index:]))
            return YES
    return YES


def _shift(machine: Machine, invoked: Invoked) -> Outcome:
    texts = invoked.texts()
    text = texts[0] if texts else "1"
    count = int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else 1
    words, shifted = machine.state.arguments
    if words is None:
        machine.state.arguments = Arguments(None, shifted + count)
        return YES
    if count > len(words):
        return NO
    machine.state.arguments = Arguments(words[count:], shifted + count)
    return YES


def _change_folder(machine: Machine, invoked: Invoked) -> Outcome:
    words = [word for word in invoked.arguments() if (known(word) or "") not in ("-P", "-L", "-e", "--")]
    before = machine.state.folder
    if not words:
        folder: Pieces = (Hole("the home directory", "~", invoked.at, True),)
    elif known(words[0]) == "-":
        held = machine.value("OLDPWD")
        folder = held if isinstance(held, tuple) and not hasattr(held, "elements") else ()
    else:
        folder = joined_folder(before, words[0], invoked.at)
    machine.state.variables["OLDPWD"] = before or (Text(".", invoked.at, "computed", True),)
    machine.state.folder = None if known(folder) in ("", ".") else folder
    return Outcome(None, likely=True)


def joined_folder(before: Pieces | None, target: Pieces, at: Range) -> Pieces:
    """Where `cd target` leads from a folder."""
    options: list[tuple[Pieces, str]] = []
    for option, condition in variants(target):
        start = option[0] if option else None
        if before is None or (isinstance(start, Text) and start.text.startswith(("/", "~"))):
            whole: tuple[Piece, ...] = option
        elif isinstance(start, Hole):
            whole = option
        else:
            whole = (*before, Text("/", at, "computed", True), *option)
        text = known(whole)
        if text is not None and len(whole) > 1:
            whole = (Text(posixpath.normpath(text), at, "computed", True),)
        options.append((whole, condition))
    return options[0][0] if len(options) == 1 else chosen(options, at)


def _push(machine: Machine, invoked: Invoked) -> Outcome:
    machine.folders.append(machine.state.folder)
    return _change_folder(machine, invoked)


def _pop(machine: Machine, invoked: Invoked) -> Outcome:
    if machine.folders:
        machine.state.folder = machine.folders.pop()
    return YES


def _eval(machine: Machine, invoked: Invoked) -> Outcome:
    words = invoked.arguments()
    pieces: list[Piece] = []
    for index, word in enumerate(words):
        if index:
            pieces.append(Text(" ", invoked.at, "shell", True))
        pieces.extend(word)
    return evaluate(machine, tuple(pieces))


_SET_UP = lazy(r"activate|bashrc|profile|conda|venv|setvars|modules")
"""Scripts that set up a shell; they set nothing that a training script would use."""


def _source(machine: Machine, invoked: Invoked) -> Outcome:
    """`source env.sh`: its statements run here, if it is there to be read."""
    from vramlint.readers.shell.statements import block

    texts = invoked.texts()
    path = texts[0] if texts else None
    likely = Outcome(None, likely=True)
    if path is None:
        words = invoked.arguments()
        if words:
            machine.unread.append(" ".join(written(invoked.at).split()[1:]))
        return likely
    document = machine.sources(path) if machine.depth < DEEPEST else None
    if document is None:
        if not _SET_UP.search(path):
            machine.unread.append(path)
        return likely
    source, arguments = machine.source, machine.state.arguments
    if len(invoked.words) > 2:
        machine.state.arguments = Arguments(tuple(kept(item) for item, _, _ in invoked.words[2:]))
    machine.source = Source.of(document)
    machine.depth += 1
    block(machine, machine.parse(machine.source, 0, len(machine.source.text)).block)
    machine.depth -= 1
    machine.source, machine.state.arguments = source, arguments
    if machine.state.ended == "return":
        machine.state.ended = ""
    return likely


def _nothing(machine: Machine, invoked: Invoked) -> Outcome:
    return Outcome(None, likely=True)


BUILTINS: dict[str, Builtin] = {
    ":": _true,
    "true": _true,
    "false": _false,
    "test": _test,
    "[": _test,
    "exit": _end,
    "return": _end,
    "break": _end,
    "continue": _end,
    "unset": _unset,
    "let": _let,
    "set": _set,
    "shift": _shift,
    "cd": _change_folder,
    "pushd": _push,
    "popd": _pop,
    "eval": _eval,
    "source": _source,
    ".": _source,
    "read": reading.read,
    "mapfile": reading.mapfile,
    "readarray": reading.mapfile,
    "getopts": reading.getopts,
    "exec": _nothing,
    "trap": _nothing,
    "shopt": _nothing,
    "ulimit": _nothing,
    "umask": _nothing,
    "wait": _nothing,
    "alias": _nothing,
    "hash": _nothing,
}

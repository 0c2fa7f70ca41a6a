"""Programs of which the output can be worked out: `echo`, `dirname`, `seq`, `tr` and such."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from itertools import product

from vramlint.patterns import lazy
from vramlint.readers.shell import filters
from vramlint.readers.shell.expansion import unescaped
from vramlint.readers.shell.machine import Machine
from vramlint.readers.shell.pieces import Break, Hole, Piece, Pieces, Text, chosen, known, variants
from vramlint.readers.shell.source import Range

Printer = Callable[[Machine, Sequence[Pieces], "Pieces | None", Range], "Pieces | None"]
MOST_COMBINATIONS = 16


def _literal(text: str, at: Range) -> Text:
    return Text(text, Range(at.source, at.end, at.end), "computed", True)


def _echo(machine: Machine, words: Sequence[Pieces], read: Pieces | None, at: Range) -> Pieces | None:
    flags = ""
    while words and re.fullmatch(r"-[neE]+", known(words[0]) or ""):
        flags += (known(words[0]) or "")[1:]
        words = words[1:]
    pieces: list[Piece] = []
    for index, word in enumerate(words):
        if index:
            pieces.append(_literal(" ", _start(word) or at))
        pieces.extend(_blank(piece, at) for piece in word)
    if "e" in flags:
        pieces = [_unescaped(piece) for piece in pieces]
    if "n" not in flags:
        pieces.append(_literal("\n", at))
    return tuple(pieces)


def _start(word: Pieces) -> Range | None:
    """An empty range in front of a word, where a blank that is printed belongs."""
    first = word[0] if word else None
    if not isinstance(first, (Text, Hole)):
        return None
    place = first.ref or first.range
    return Range(place.source, place.start, place.start)


def _blank(piece: Piece, at: Range) -> Piece:
    return _literal(" ", at) if isinstance(piece, Break) else piece


def _unescaped(piece: Piece) -> Piece:
    return piece._replace(text=unescaped(piece.text)) if isinstance(piece, Text) and "\\" in piece.text else piece


_DIRECTIVE = lazy(r"%(%|[-+ 0#]*\d*(?:\.\d+)?[sdifgqbxXeEuc])")


def _printf(machine: Machine, words: Sequence[Pieces], read: Pieces | None, at: Range) -> Pieces | None:
    if words and known(words[0]) == "-v":
        return None
    if words and known(words[0]) == "--":
        words = words[1:]
    if not words or len(words[0]) != 1 or not isinstance(words[0][0], Text):
        form = known(words[0]) if words else None
        if form is None:
            return None
        first = words[0][0]
        if not isinstance(first, Text):
            return None
        form_piece = first._replace(text=form)
    else:
        form_piece = words[0][0]
    pieces: list[Piece] = []
    arguments = list(words[1:])
    while True:
        taken = _formatted(form_piece, arguments, pieces, at)
        if taken is None:
            return None
        if not arguments or not taken:
            return tuple(pieces)


def _formatted(form: Text, arguments: list[Pieces], pieces: list[Piece], at: Range) -> int | None:
    """Print the form once with the first arguments, which it takes from the list; how many those were."""
    taken = done = 0
    for match in _DIRECTIVE.finditer(form.text):
        if match.start() > done:
            pieces.append(_unescaped(form.cut(done, match.start())))
        done = match.end()
        if match[1] == "%":
            pieces.append(form.cut(match.start(), match.start() + 1))
            continue
        word = arguments.pop(0) if arguments else ()
        taken += 1
        if match[0] in ("%s", "%b", "%d", "%i", "%q"):
            pieces.extend(word)
            continue
        text = known(word)
        if text is None:
            return None
        shown = _number(match[0], text)
        if shown is None:
            return None
        pieces.append(_literal(shown, at))
    if done < len(form.text):
        pieces.append(_unescaped(form.cut(done, len(form.text))))
    return taken


def _number(form: str, text: str) -> str | None:
    if max((int(number) for number in re.findall(r"\d+", form)), default=0) > 100:
        return None
    try:
        if form[-1] in "sqbc":
            return f"%{form[1:-1]}s" % text
        if form[-1] in "dixXu":
            return f"%{form[1:-1]}{form[-1].replace('i', 'd').replace('u', 'd')}" % int(text or "0")
        return form % float(text or "0")
    except (ValueError, OverflowError, TypeError):
        return None


def _cat(machine: Machine, words: Sequence[Pieces], read: Pieces | None, at: Range) -> Pieces | None:
    names = [known(word) for word in words]
    return read if all(name == "-" for name in names) else None


def _tee(machine: Machine, words: Sequence[Pieces], read: Pieces | None, at: Range) -> Pieces | None:
    from vramlint.readers.shell.commands import finish

    append = any(known(word) in ("-a", "--append") for word in words)
    usable = read is not None and not any(isinstance(piece, Hole) and not piece.reason for piece in read)
    for word in words:
        if not (known(word) or "").startswith("-"):
            finish(machine, (word, append), read if usable else None, at)
    return read


def _folder(machine: Machine, words: Sequence[Pieces], read: Pieces | None, at: Range) -> Pieces | None:
    return machine.state.folder or (Text(".", at, "computed", True),)


def _options(machine: Machine, words: Sequence[Pieces], read: Pieces | None, at: Range) -> Pieces | None:
    """`getopt`: with no arguments there are no options."""
    return (_literal(" --\n", at),) if machine.state.arguments.words is None else None


def _pure(function: Callable[[list[str], str | None], str | None]) -> Printer:
    """A printer out of a function over texts: for each combination of the texts that its words may be."""

    def printer(machine: Machine, words: Sequence[Pieces], read: Pieces | None, at: Range) -> Pieces | None:
        parts = [*words, read if read is not None else ()]
        options = [variants(part) for part in parts]
        count = 1
        for part in options:
            count *= len(part)
        if count > MOST_COMBINATIONS:
            return None
        found: list[tuple[Pieces, str]] = []
        for combination in product(*options):
            texts = [known(pieces) for pieces, _ in combination]
            condition = " && ".join(dict.fromkeys(text for _, text in combination if text))
            hole = next((p for pieces, _ in combination for p in pieces if isinstance(p, Hole)), None)
            known_texts = [text for text in texts[:-1] if text is not None]
            if hole is not None or len(known_texts) < len(words):
                if hole is None or not hole.reason or len(options) == 1:
                    return None
                shown = " ".join(at.source.text[at.start : at.end].split())
                found.append(((Hole(hole.reason, f"$({shown})", at, True, None),), condition))
                continue
            outcome = function(known_texts, texts[-1] if read is not None else None)
            if outcome is None:
                return None
            found.append(((Text(outcome, at, "computed", True),), condition))
        return found[0][0] if len(found) == 1 else chosen(found, at)

    return printer


def _dirname(arguments: list[str], read: str | None) -> str | None:
    paths = [text for text in arguments if not text.startswith("-")]
    return (posixpath.dirname(paths[0].rstrip("/") or "/") or ".") + "\n" if paths else None


def _basename(arguments: list[str], read: str | None) -> str | None:
    suffix = ""
    if arguments[:1] == ["-s"] and len(arguments) > 2:
        suffix, arguments = arguments[1], arguments[2:]
    arguments = [text for text in arguments if text not in ("--", "-a")]
    if not arguments:
        return None
    suffix = suffix or (arguments[1] if len(arguments) > 1 else "")
    name = posixpath.basename(arguments[0].rstrip("/"))
    return (name.removesuffix(suffix) if name != suffix else name) + "\n"


def _real(arguments: list[str], read: str | None) -> str | None:
    paths = [text for text in arguments if not text.startswith("-")]
    return posixpath.normpath(paths[0]) + "\n" if len(paths) == 1 else None


def _program(arguments: list[str], read: str | None) -> str | None:
    """`which python`: the program by its name, for where it lies tells nothing of what it does."""
    return arguments[-1] + "\n" if arguments and not arguments[-1].startswith("-") else None


def _sequence(arguments: list[str], read: str | None) -> str | None:
    separator = "\n"
    if arguments[:1] == ["-s"] and len(arguments) > 2:
        separator, arguments = arguments[1], arguments[2:]
    if not arguments or not all(re.fullmatch(r"-?\d{1,9}", text) for text in arguments) or len(arguments) > 3:
        return None
    numbers = [int(text) for text in arguments]
    first, step, last = {1: (1, 1, numbers[0]), 2: (numbers[0], 1, numbers[-1])}.get(
        len(numbers), (numbers[0], numbers[1] if len(numbers) > 1 else 1, numbers[-1])
    )
    if not step or abs(last - first) // abs(step) > 1000:
        return None
    items = range(first, last + (1 if step > 0 else -1), step)
    return separator.join(str(item) for item in items) + "\n" if items else ""


PRINTERS: dict[str, Printer] = {
    "echo": _echo,
    "printf": _printf,
    "cat": _cat,
    "tee": _tee,
    "getopt": _options,
    "pwd": _folder,
    "dirname": _pure(_dirname),
    "basename": _pure(_basename),
    "realpath": _pure(_real),
    "readlink": _pure(_real),
    "which": _pure(_program),
    "command": _pure(_program),
    "type": _pure(_program),
    "seq": _pure(_sequence),
    **{name: _pure(function) for name, function in filters.FILTERS.items()},
}

"""`read`, `mapfile` and `getopts`: variables that take what comes in."""

from __future__ import annotations

from vramlint.readers.shell.fields import BLANKS
from vramlint.readers.shell.invoked import Invoked
from vramlint.readers.shell.machine import NO, OPEN, YES, Machine, Outcome
from vramlint.readers.shell.parameters import separators
from vramlint.readers.shell.pieces import Hole, Pieces, Text, assigned
from vramlint.readers.shell.redirections import given
from vramlint.readers.shell.state import Array

_VALUED = frozenset("dinNptu")


def read(machine: Machine, invoked: Invoked) -> Outcome:
    """`read -r -d '' TEXT <<EOF`, `IFS=, read -ra GPUS <<< "$LIST"`, `read X`."""
    flags, delimiter, names = _options(invoked)
    names = names or ["REPLY"]
    own = given(machine, invoked.command)
    pieces = own if own is not None else machine.input
    known = pieces is not None and all(isinstance(piece, Text) for piece in pieces)
    if pieces is None or not known or (own is None and machine.input is not None and delimiter is None):
        hole = Hole("what read takes from its input", f"${names[0]}", invoked.at, True)
        for name in names:
            machine.assign(name, (hole,))
        return OPEN
    if delimiter != "":
        pieces = _line(pieces, delimiter or "\n")
    marks = separators(machine)
    if "a" in flags:
        words = _words(pieces, marks, None)
        machine.assign(names[0], Array(tuple(assigned(word) for word in words)))
        return YES
    words = _words(pieces, marks, len(names))
    for index, name in enumerate(names):
        machine.assign(name, assigned(words[index]) if index < len(words) else ())
    return YES


def _options(invoked: Invoked) -> tuple[str, str | None, list[str]]:
    """Flags, the delimiter of `-d`, and the names of the variables."""
    flags, delimiter = "", None
    names: list[str] = []
    texts = invoked.texts()
    index = 0
    while index < len(texts):
        text = texts[index]
        index += 1
        if text is None:
            continue
        if not text.startswith("-") or names:
            names.append(text)
            continue
        for place, letter in enumerate(text[1:], 2):
            flags += letter
            if letter in _VALUED:
                value = text[place:] or (texts[index] if index < len(texts) else "") or ""
                index += not text[place:]
                delimiter = value[:1] if letter == "d" else delimiter
                break
    if "a" in flags and not names:
        names.append("REPLY")
    return flags, delimiter, [name for name in names if name.isidentifier()]


def _line(pieces: Pieces, delimiter: str) -> Pieces:
    """The pieces up to the first delimiter."""
    found: list[Text] = []
    for piece in pieces:
        if isinstance(piece, Text):
            cut = piece.text.find(delimiter)
            if cut >= 0:
                found.append(piece.cut(0, cut))
                break
            found.append(piece)
    return tuple(found)


def _words(pieces: Pieces, marks: str, most: int | None) -> list[Pieces]:
    """The pieces cut at separators into at most `most` words; blanks around the last one are dropped."""
    words: list[list[Text]] = [[]]
    blank = not marks or marks.isspace()
    for piece in pieces:
        if not isinstance(piece, Text):
            continue
        start = 0
        for index, character in enumerate(piece.text):
            full = most is not None and len(words) >= most
            if character not in marks or (full and (words[-1] or index > start)):
                continue
            if index > start:
                words[-1].append(piece.cut(start, index))
            start = index + 1
            if (words[-1] or not blank) and not full:
                words.append([])
        if start < len(piece.text):
            words[-1].append(piece.cut(start, len(piece.text)))
    if marks:
        words[-1] = _trimmed(words[-1])
    if not words[-1]:
        words.pop()
    return [tuple(word) for word in words]


def _trimmed(word: list[Text]) -> list[Text]:
    while word:
        text = word[-1].text.rstrip(BLANKS)
        if text:
            word[-1] = word[-1].cut(0, len(text))
            break
        word.pop()
    return word


def mapfile(machine: Machine, invoked: Invoked) -> Outcome:
    """`mapfile -t LINES < file`."""
    names = [text for text in invoked.texts() if text and text.isidentifier()]
    name = names[-1] if names else "MAPFILE"
    pieces = given(machine, invoked.command)
    if pieces is None or not all(isinstance(piece, Text) for piece in pieces):
        machine.assign(name, (Hole("lines that are read from a file", f"${name}", invoked.at, False),))
        return YES
    words = _words(pieces, "\n", None)
    machine.assign(name, Array(tuple(assigned(word) for word in words)))
    return YES


def getopts(machine: Machine, invoked: Invoked) -> Outcome:
    """`while getopts …`: with no arguments there are no options."""
    texts = invoked.texts()
    if len(texts) > 1 and (name := texts[1]):
        machine.assign(name, (Hole(f"an option given to {machine.name}", f"${name}", invoked.at, True),))
    machine.assign("OPTARG", (Hole(f"the value of an option given to {machine.name}", "$OPTARG", invoked.at, True),))
    words = machine.state.arguments.words
    if words is None:
        return Outcome(None, usual=False)
    return OPEN if words else NO

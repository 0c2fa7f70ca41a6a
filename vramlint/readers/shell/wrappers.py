"""Programs that run another one and add nothing to it: `nohup`, `time`, `env A=1`, `timeout 3h`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vramlint.patterns import lazy
from vramlint.readers.shell.pieces import Fork, Pieces, Text, Word, known

Placed = tuple[Word, int, int]

_WRAPPERS: dict[str, tuple[frozenset[str], int]] = {
    "nohup": (frozenset(), 0),
    "time": (frozenset({"-f", "-o"}), 0),
    "exec": (frozenset({"-a"}), 0),
    "command": (frozenset(), 0),
    "builtin": (frozenset(), 0),
    "setsid": (frozenset(), 0),
    "unbuffer": (frozenset(), 0),
    "nice": (frozenset({"-n"}), 0),
    "ionice": (frozenset({"-c", "-n", "-p"}), 0),
    "stdbuf": (frozenset({"-i", "-o", "-e"}), 0),
    "timeout": (frozenset({"-s", "-k", "--signal", "--kill-after"}), 1),
    "env": (frozenset({"-u", "-C", "--unset", "--chdir"}), 0),
    "sudo": (frozenset({"-u", "-g", "-h", "-p", "-C"}), 0),
    "caffeinate": (frozenset(), 0),
    "!": (frozenset(), 0),
}
"""Their options that take a value, and how many arguments stand in front of the program."""
_ASSIGNED = lazy(r"([A-Za-z_]\w*)=", re.ASCII)


def unwrapped(words: list[Placed]) -> tuple[Sequence[tuple[str, Pieces]], list[Placed]]:
    """The words of the program that is run in the end, and the variables that `env` sets for it."""
    environment: list[tuple[str, Pieces]] = []
    while len(words) > 1:
        name = _text(words[0])
        if name not in _WRAPPERS:
            break
        valued, arguments = _WRAPPERS[name]
        if name == "command" and _text(words[1]) in ("-v", "-V"):
            break
        index = 1
        while index < len(words):
            text = _text(words[index])
            if text is None:
                break
            if text.startswith("-") and text != "-":
                index += 2 if text in valued else 1
            elif name in ("env", "sudo") and (match := _ASSIGNED.match(text)):
                item = words[index][0]
                environment.append((match[1], _behind(item, match.end())))
                index += 1
            elif arguments:
                arguments -= 1
                index += 1
            else:
                break
        if index >= len(words):
            break
        words = words[index:]
    return environment, words


def _text(word: Placed) -> str | None:
    return None if isinstance(word[0], Fork) else known(word[0])


def _behind(word: Word, length: int) -> Pieces:
    """The pieces without their first `length` characters."""
    found: list[Text] = []
    for piece in word:
        if isinstance(piece, Text):
            cut = min(length, len(piece.text))
            length -= cut
            if cut < len(piece.text) or not piece.text:
                found.append(piece.cut(cut, len(piece.text)))
    return tuple(found)

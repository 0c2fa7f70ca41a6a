"""Command lines inside of one word: `bash -c "cd src && torchrun train.py"`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from msgspec.structs import replace

from vramlint.surfaces.launch.words import Line, Word, named
from vramlint.values import Scalar

_SHELLS = frozenset({"bash", "sh", "zsh", "dash", "ksh", "su", "script"})
"""Programs that run the text behind `-c`."""

_BREAKS = frozenset(";&|()\n")


def lines_of_text(word: Word) -> tuple[Line, ...]:
    """The commands in the text of one word, every part at the place of that word; variables stay unknown words."""
    text = word.text
    if text is None or not isinstance(word.value, Scalar):
        return ()
    lexer = shlex.shlex(text.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    try:
        for token in lexer:
            if token and set(token) <= _BREAKS:
                found.append([])
            else:
                found[-1].append(token)
    except ValueError:  # a quote that nothing closes
        return ()
    whole = replace(word.value, place=word.written)
    return tuple([tuple([Word(replace(whole, value=part), word.place) for part in parts]) for parts in found if parts])


def texts(line: Line) -> Iterator[Word]:
    """The words of a shell's command line whose text is run as commands."""
    name = named(line[0])
    if name in _SHELLS:
        for index, word in enumerate(line[1:-1], 1):
            text = word.text or ""
            if text.startswith("-") and not text.startswith("--") and text.endswith("c"):
                yield line[index + 1]
                return
    elif name == "eval" and len(line) == 2:
        yield line[1]
    elif name in ("tmux", "ssh", "pdsh") and len(line) > 2 and " " in (line[-1].text or ""):
        yield line[-1]

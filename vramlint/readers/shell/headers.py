"""Options of batch systems in the comments of a script: `#SBATCH --gres=gpu:4`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.patterns import lazy
from vramlint.text import Document, Place
from vramlint.values import Entry, Scalar

_HEADER = lazy(r"^#(SBATCH|PBS|BSUB|\$|COBALT|FLUX:)[ \t]+(?=-)", re.MULTILINE)
_WORD = lazy(r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s#\"']|(?<=\S)#)+")
_OPTION = lazy(r"(--[A-Za-z][\w-]*)(?:=(.*))?|(-[A-Za-z])(.*)", re.DOTALL)
_WHOLE = lazy(r"(-[A-Za-z]+)()")
"""LSF spells long options with one dash: `-gpu`."""
_COMMENT = lazy(r"\s#")


def headers(document: Document) -> tuple[Entry, ...]:
    """The options in written order, each under the name that it is written with (`--gres`, `-N`)."""
    if "#" not in document.text:
        return ()
    return tuple(entry for match in _HEADER.finditer(document.text) for entry in _line(document, match.end(), match[1]))


def _line(document: Document, start: int, system: str) -> Iterator[Entry]:
    text = document.text
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    comment = _COMMENT.search(text, start, end)
    end = comment.start() if comment else end
    words = [match.span() for match in _WORD.finditer(text, start, end)]
    index = 0
    while index < len(words):
        first, last = words[index]
        index += 1
        option = (_WHOLE if system == "BSUB" else _OPTION).fullmatch(text, first, last)
        if option is None:
            continue
        group, value = (1, 2) if option[1] else (3, 4)
        at = option.span(value)
        if not option[value]:
            if index < len(words) and text[words[index][0]] != "-":
                at = words[index]
                index += 1
            else:
                at = (last, last)
        yield Entry(option[group], _place(document, *option.span(group)), _scalar(document, *at))


def _scalar(document: Document, start: int, end: int) -> Scalar:
    if end - start > 1 and document.text[start] in "\"'" and document.text[end - 1] == document.text[start]:
        start, end = start + 1, end - 1
    return Scalar(document.text[start:end], _place(document, start, end))


def _place(document: Document, start: int, end: int) -> Place:
    return Place(document.path, document.span(start, end))

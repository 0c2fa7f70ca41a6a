"""Simple commands and the words of `[[ … ]]` and arrays, cut as bash cuts them."""

from __future__ import annotations

import re

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.readers.shell import scan

_ARRAY = lazy(r"[A-Za-z_]\w*(?:\[[^\]\n]*\])?\+?=\(", re.ASCII)
_REDIRECTION = lazy(r"(?:\d+|\{\w+\})?(<<<|<<-|<<|<&|<>|<(?!\()|>>|>\||>&|>(?!\()|&>>|&>)")


class Redirection(Struct, frozen=True):
    """`2> log`: the operator without the descriptor, and the span of its target."""

    operator: str
    descriptor: str
    start: int
    end: int


class Heredoc(Struct, frozen=True):
    """The body of a here-document; a literal one (`<<'EOF'`) expands nothing."""

    start: int
    end: int
    literal: bool
    tabs: bool
    """`<<-`: leading tabs are not part of it."""


class Simple(Struct, frozen=True):
    """A simple command: spans of its words, its redirections, and where it ends."""

    start: int
    end: int
    words: tuple[tuple[int, int], ...]
    redirections: tuple[Redirection, ...]
    heredocs: tuple[Heredoc, ...]


def simple(text: str, start: int, limit: int | None = None) -> Simple:
    """The simple command at `start`, as bash cuts it."""
    limit = len(text) if limit is None else limit
    words: list[tuple[int, int]] = []
    redirections: list[Redirection] = []
    delimiters: list[Redirection] = []
    index, end = start, start
    while True:
        index = scan.blanks(text, index)
        if index >= limit or text[index] in "\n;|)#":
            break
        found = _REDIRECTION.match(text, index) if text[index] in "<>&{0123456789" else None
        if found and not scan.PLACEHOLDER.match(text, index):
            first = scan.blanks(text, found.end())
            index = end = scan.word(text, first, limit)
            item = Redirection(found[1], found[0][: -len(found[1])], first, end)
            (delimiters if found[1] in ("<<", "<<-") else redirections).append(item)
            continue
        if text[index] == "&":
            break
        array = _ARRAY.match(text, index)
        last = scan.parentheses(text, array.end() - 1) if array else scan.word(text, index, limit)
        if last == index:
            if text[index] != "(":
                break
            last = scan.parentheses(text, index)
        words.append((index, last))
        index = end = last
    return Simple(start, end, tuple(words), tuple(redirections), _heredocs(text, index, delimiters))


def _heredocs(text: str, index: int, delimiters: list[Redirection]) -> tuple[Heredoc, ...]:
    if not delimiters:
        return ()
    newline = _line_end(text, index)
    found: list[Heredoc] = []
    for item in delimiters:
        written = text[item.start : item.end]
        delimiter = re.sub(r"[\\'\"]", "", written)
        tabs = item.operator == "<<-"
        body = scan.heredoc(text, newline, delimiter, tabs=tabs)
        if body is None:
            continue
        found.append(Heredoc(*body, literal=delimiter != written, tabs=tabs))
        newline = text.find("\n", body[1])
    return tuple(found)


def _line_end(text: str, index: int) -> int:
    """The newline that ends the line of commands at `index`, behind quotes that span lines; -1 without one."""
    while index < len(text):
        character = text[index]
        if character == "\n":
            return index
        if character == "#" and text[index - 1] in " \t;":
            index = scan.comment(text, index)
            continue
        index = max(scan.quoted(text, index, character), index + 1)
    return -1


def tokens(text: str, index: int, limit: int) -> list[tuple[int, int]]:
    """The words and operators between `index` and `limit` in `[[ … ]]` or an array: newlines and comments separate."""
    found: list[tuple[int, int]] = []
    while True:
        index = scan.blanks(text, index)
        if index >= limit:
            return found
        character = text[index]
        if character == "\n":
            index += 1
            continue
        if character == "#":
            index = scan.comment(text, index)
            continue
        last = scan.word(text, index, limit)
        if last == index:
            last = index + (2 if text[index : index + 2] in ("&&", "||") else 1)
        found.append((index, last))
        index = last

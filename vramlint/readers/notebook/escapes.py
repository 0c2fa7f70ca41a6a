"""Where a cell leaves Python: magics, shell lines and requests for help, as IPython finds them.

They stand at the start of a logical line or behind an assignment's `=`; within brackets and strings `%` and `!` are
Python's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from vramlint.patterns import lazy

_TOKEN = lazy(
    r"(?P<string>(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"))"
    r"|(?P<comment>\#[^\n]*)"
    r"|(?P<open>[(\[{])"
    r"|(?P<close>[)\]}])"
    r"|(?P<joined>\\\r?\n)"
    r"|(?P<end>\n)"
    r"|(?P<assigned>(?<![=!<>:])=[ \t]*(?=!|%[A-Za-z]))"
    r"|[^'\"#()\[\]{}\\\n=]+|.",
    re.DOTALL,
)
_HEAD = lazy(r"(?P<indent>[ \t]*)(?:[%!?]|(?P<help>[\w.*]+\?{1,2}[ \t\r]*(?=\n|\Z)))?")
_TAIL = lazy(r"(?:[^\\\n]|\\(?!\r?\n)|\\\r?\n)*")
"""A magic's line, and those that a backslash joins to it."""
_CELL = lazy(r"%%|%(?:python|sh|sql|md|scala|r|fs)(?=[ \t]*\r?\n)")
"""How a magic begins that takes the whole cell: IPython's, and Databricks' with the cell's first line to itself."""
_NAME = lazy(r"[^\s(]*")
_SILENT = lazy(r"(?:[ \t]*(?:\#[^\n]*)?\r?\n)*")
"""Lines without code."""


class Escape(NamedTuple):
    """A stretch of a cell that isn't Python."""

    start: int
    """Where its sign stands."""
    end: int
    name: str
    """`!`, `?`, a magic's name behind its sign: `%cd`, `%%bash`."""
    arguments: tuple[int, int]
    """What stands behind the name: the command of `!`, a magic's line."""
    body: tuple[int, int] | None = None
    """The lines below a cell magic."""
    indented: bool = False
    is_value: bool = False
    """Assigned to a variable: `files = !ls`."""


def escapes(text: str, start: int, end: int) -> Iterator[Escape]:
    """The escapes in `text[start:end]`, one cell, in order."""
    first = _SILENT.match(text, start, end)
    at = first.end() if first else start
    if _CELL.match(text, at, end):
        yield cell_magic(text, at, end)
        return
    at = start
    while at < end:
        head = _HEAD.match(text, at, end)
        if head is None or not head.group().strip():
            found, at = _python(text, at, end)
            yield from found
            continue
        begin = head.end("indent")
        indented = begin > at
        if head["help"]:
            yield Escape(begin, head.end(), "?", (begin, head.end()), indented=indented)
            at = head.end()
        else:
            escape = line_escape(text, begin, end, indented=indented)
            yield escape
            at = escape.end
        at = text.find("\n", at, end) + 1 or end


def cell_magic(text: str, at: int, end: int) -> Escape:
    """The magic at `at`, which takes all that follows up to `end`."""
    line_end = text.find("\n", at, end)
    line_end = end if line_end < 0 else line_end
    name = _NAME.match(text, at, line_end)
    behind = name.end() if name else line_end
    return Escape(at, end, text[at:behind], (behind, line_end), body=(min(line_end + 1, end), end))


def line_escape(text: str, at: int, end: int, *, indented: bool = False, is_value: bool = False) -> Escape:
    """The magic or command at `at`, up to the end of its line, or of the last that a backslash joins to it."""
    tail = _TAIL.match(text, at, end)
    behind = tail.end() if tail else end
    if text.startswith("%", at):
        name = _NAME.match(text, at, behind)
        split = name.end() if name else behind
        return Escape(at, behind, text[at:split], (split, behind), None, indented, is_value)
    sign = "?" if text.startswith("?", at) else "!"
    split = at + (2 if text.startswith(sign * 2, at) else 1)
    return Escape(at, behind, sign, (split, behind), None, indented, is_value)


def _python(text: str, at: int, end: int) -> tuple[list[Escape], int]:
    """What a logical line of Python assigns from an escape, and where the next line starts."""
    depth = 0
    while at < end:
        token = _TOKEN.match(text, at, end)
        if token is None:
            return [], end
        at = token.end()
        match token.lastgroup:
            case "open":
                depth += 1
            case "close":
                depth = max(depth - 1, 0)
            case "end" if not depth:
                return [], at
            case "assigned" if not depth:
                escape = line_escape(text, at, end, is_value=True)
                return [escape], text.find("\n", escape.end, end) + 1 or end
            case _:
                pass
    return [], end

"""A text in which words hold nothing that a grammar could stumble over: for scripts that the grammar does not get."""

from __future__ import annotations

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.readers.shell import cutting, scan

_HEREDOC = lazy(r"<<(-?)[ \t]*(\\?[\w.-]+|'[^'\n]*'|\"[^\"\n]*\")")
_NEXT = lazy(r"""[\\'"$`#<\[(]""")
_CHARACTER = lazy(r"[^\n]")
_HOMELY = lazy(r"[ \t\n;&|(!]")


class Masked(Struct, frozen=True):
    """The text with quoted strings, expansions, tests and placeholders as plain letters; what is not closed in it."""

    text: str
    unclosed: int | None
    """Where a quote opens that nothing closes."""


def masked(text: str) -> Masked:
    """The text for a second try."""
    pieces: list[str] = []
    bodies: list[tuple[str, bool]] = []
    unclosed: int | None = None
    index = done = 0
    while index < len(text):
        if bodies:
            newline = text.find("\n", index)
            match = _NEXT.search(text, index, len(text) if newline < 0 else newline)
            if match is None:
                if newline < 0:
                    break
                pieces.append(text[done:newline])
                index = done = _bodies(text, newline, bodies, pieces)
                bodies = []
                continue
        else:
            match = _NEXT.search(text, index)
            if match is None:
                break
        index = match.start()
        end = _behind(text, index)
        if text[index] == "<":
            heredoc = _HEREDOC.match(text, index)
            if text.startswith("<<<", index):
                index += 3
                continue
            if heredoc:
                bodies.append((heredoc[2].strip("'\"\\"), bool(heredoc[1])))
                index = heredoc.end()
                pieces.append(text[done:index])
                done = index
                continue
            placeholder = scan.PLACEHOLDER.match(text, index)
            if placeholder is None:
                index += 1
                continue
            end = placeholder.end()
        elif end <= index + 1:
            index += 1
            continue
        if text[index] != "#" and text[index] != "\\":
            if unclosed is None and end >= len(text) and not _closed(text, index, end):
                unclosed = index
            pieces += (text[done:index], _letters(text, index, end))
            done = end
        index = end
    pieces.append(text[done:])
    return Masked("".join(pieces), unclosed)


def _behind(text: str, index: int) -> int:
    """Behind what starts at `index` and is to be masked or skipped; `index` itself or the next where nothing does."""
    character = text[index]
    first = not index or _HOMELY.match(text[index - 1]) is not None
    match character:
        case "\\":
            return index + 2
        case "'":
            return scan.single(text, index)
        case '"':
            return scan.double(text, index)
        case "`":
            return scan.backquote(text, index)
        case "$":
            return scan.dollar(text, index)
        case "#":
            end = text.find("\n", index) if first else index
            return len(text) if end < 0 else end
        case "[" if first and text.startswith("[[ ", index):
            end = text.find(" ]]", index)
            return end + 3 if end >= 0 else index
        case "[" if first and text.startswith("[ ", index):
            last = cutting.simple(text, index).words[-1]
            return last[1] if text[slice(*last)] == "]" else index
        case "(" if first and text.startswith("((", index) and not text.endswith("for ", 0, index):
            return scan.parentheses(text, index)
        case _:
            return index


def _letters(text: str, start: int, end: int) -> str:
    if text.startswith(("[[", "(("), start):
        return f"{text[start : start + 2]} {'x' * (end - start - 6)} {text[end - 2 : end]}"
    if text.startswith("[ ", start):
        return f"[ {'x' * (end - start - 4)} ]"
    return "x" * (end - start)


def _closed(text: str, start: int, end: int) -> bool:
    opening = text[start : start + 2]
    closing = {"$(": ")", "${": "}", "$[": "]", "$'": "'", '$"': '"', "((": ")"}.get(opening, opening[:1])
    if opening[:1] in "<[" or (opening[:1] == "$" and opening[1:] not in ("(", "{", "[", "'", '"')):
        return True
    return end - start > 1 and text[end - 1] == closing


def _bodies(text: str, newline: int, bodies: list[tuple[str, bool]], pieces: list[str]) -> int:
    """Behind the here-documents that start at a newline; their lines are letters in the pieces."""
    for delimiter, tabs in bodies:
        body = scan.heredoc(text, newline, delimiter, tabs=tabs)
        if body is None:
            break
        end = text.find("\n", body[1])
        end = len(text) if end < 0 else end
        pieces += (text[newline : body[0]], _CHARACTER.sub("x", text[slice(*body)]), text[body[1] : end])
        newline = end
    return newline

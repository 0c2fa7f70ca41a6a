"""Expansion of words: quotes, `$…`, braces, tilde, command substitution, word splitting."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vramlint.patterns import lazy
from vramlint.readers.shell import calculation, cutting, parameters, scan
from vramlint.readers.shell.braces import alternatives
from vramlint.readers.shell.fields import split
from vramlint.readers.shell.machine import Machine, composed
from vramlint.readers.shell.pieces import (
    Hole,
    Piece,
    Pieces,
    Text,
    Word,
    known,
    written,
)
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Array

_SPECIAL = lazy(r"""[\\'"$`~{<>*\s]""")
_LITERAL = lazy(r"""[^\\'"$`~<>]+""")
_QUOTED_LITERAL = lazy(r'[^\\"$`]+')
_BODY_LITERAL = lazy(r"[^\\$`]+")
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v",
}  # fmt: skip


def fields(machine: Machine, spans: Iterable[tuple[int, int]]) -> list[tuple[Word, int, int]]:
    """The words that the source's words at `spans` become, each with the span that it comes from."""
    text = machine.source.text
    found: list[tuple[Word, int, int]] = []
    for start, end in spans:
        if not _SPECIAL.search(text, start, end):
            piece = Text(text[start:end], Range(machine.source, start, end), machine.source.via(start), False)
            found.append(((piece,), start, end))
            continue
        separators = parameters.separators(machine)
        for parts in alternatives(text, start, end):
            pieces: list[Piece] = []
            for first_, last, literal in parts:
                if literal is None:
                    pieces.extend(word(machine, first_, last))
                else:
                    at = Range(machine.source, first_, last)
                    pieces.append(Text(literal, at, machine.source.via(start), False))
            found.extend((item, start, end) for item in split(tuple(pieces), separators))
    return found


def word(machine: Machine, start: int, end: int) -> Pieces:  # noqa: PLR0915 (one branch for each kind of quote)
    """One word without splitting, as on the right of an assignment."""
    text, source = machine.source.text, machine.source
    if not _SPECIAL.search(text, start, end):
        return (Text(text[start:end], Range(source, start, end), source.via(start), False),) if end > start else ()
    pieces: list[Piece] = []
    index = start
    while index < end:
        character = text[index]
        if character == "\\":
            if text[index + 1 : index + 2] == "\n":
                index += 2
                continue
            last = min(index + 2, end)
            pieces.append(Text(text[index + 1 : last] or "\\", Range(source, last - 1, last), source.via(index), True))
            index = last
        elif character == "'":
            last = min(scan.single(text, index), end)
            stop = last - 1 if last > index + 1 and text[last - 1] == "'" else last
            pieces.append(Text(text[index + 1 : stop], Range(source, index + 1, stop), source.via(index), True))
            index = last
        elif character == '"':
            last = min(scan.double(text, index), end)
            stop = last - 1 if last > index + 1 and text[last - 1] == '"' else last
            inner = quoted(machine, index + 1, stop, heredoc=False)
            nothing = not inner and "@" not in text[index:stop]
            pieces.extend((_empty(machine, index + 1),) if nothing else inner)
            index = last
        elif character == "$" and text[index + 1 : index + 2] == "'":
            last = min(scan.ansi(text, index), end)
            content = text[index + 2 : last - 1]
            pieces.append(
                Text(unescaped(content), Range(source, index + 2, max(last - 1, index + 2)), source.via(index), True)
            )
            index = last
        elif character == "$" and text[index + 1 : index + 2] == '"':
            index += 1
        elif character in "$`":
            found, index = dollar(machine, index, end, quoted_=False)
            pieces.extend(found)
        elif character == "~" and (index == start or text[index - 1] in ":=") and _home(text, index, end):
            pieces.append(Hole("the home directory", "~", Range(source, index, index + 1), True))
            index += 1
        elif character in "<>" and text[index + 1 : index + 2] == "(":
            last = min(scan.parentheses(text, index + 1), end)
            at = Range(source, index, last)
            pieces.append(Hole(f"result of {written(at)}", written(at), at, True))
            index = last
        elif character == "<" and (placeholder := scan.PLACEHOLDER.match(text, index, end)):
            at = Range(source, index, placeholder.end())
            pieces.append(Hole(f"placeholder {placeholder[0]}", placeholder[0], at, True))
            index = placeholder.end()
        else:
            match = _LITERAL.match(text, index, end)
            last = match.end() if match else index + 1
            pieces.append(Text(text[index:last], Range(source, index, last), source.via(index), False))
            index = last
    return tuple(pieces)


def _home(text: str, index: int, end: int) -> bool:
    return index + 1 == end or text[index + 1] in "/:"


def _empty(machine: Machine, index: int) -> Text:
    return Text("", Range(machine.source, index, index), machine.source.via(index), True)


def quoted(machine: Machine, start: int, end: int, *, heredoc: bool) -> Pieces:
    """What stands inside of double quotes, or in a here-document."""
    text, source = machine.source.text, machine.source
    pieces: list[Piece] = []
    index = start
    literal = _BODY_LITERAL if heredoc else _QUOTED_LITERAL
    while index < end:
        character = text[index]
        if character == "\\":
            following = text[index + 1 : index + 2]
            if following == "\n":
                index += 2
            elif following and following in ("$`\\" if heredoc else '$`"\\'):
                pieces.append(Text(following, Range(source, index + 1, index + 2), source.via(index), True))
                index += 2
            else:
                pieces.append(Text("\\", Range(source, index, index + 1), source.via(index), True))
                index += 1
        elif character in "$`":
            found, index = dollar(machine, index, end, quoted_=True)
            pieces.extend(found)
        else:
            match = literal.match(text, index, end)
            last = match.end() if match else index + 1
            pieces.append(Text(text[index:last], Range(source, index, last), source.via(index), True))
            index = last
    return _compact(pieces)


def _compact(pieces: list[Piece]) -> Pieces:
    """Literal neighbours as one piece where they stand next to each other."""
    found: list[Piece] = []
    for piece in pieces:
        before = found[-1] if found else None
        if (
            isinstance(piece, Text)
            and isinstance(before, Text)
            and before.ref is None
            and piece.ref is None
            and before.range.source is piece.range.source
            and before.range.end == piece.range.start
            and before.range.end - before.range.start == len(before.text)
        ):
            at = Range(before.range.source, before.range.start, piece.range.end)
            found[-1] = before._replace(text=before.text + piece.text, range=at)
        else:
            found.append(piece)
    return tuple(found)


def dollar(machine: Machine, index: int, end: int, *, quoted_: bool) -> tuple[Pieces, int]:
    """The expansion at `index` and where it ends; `quoted_` inside of double quotes."""
    text, source = machine.source.text, machine.source
    if text[index] == "`":
        last = min(scan.backquote(text, index), end)
        return substituted(machine, index, last, backquoted=True, quoted_=quoted_), last
    last = min(scan.dollar(text, index, quoted=True), end)
    at = Range(source, index, last)
    following = text[index + 1 : index + 2]
    if last <= index + 1:
        return (Text("$", at, source.via(index), quoted_),), index + 1
    if following == "(":
        if text.startswith("((", index + 1) and text[last - 2 : last] == "))":
            return calculation.calculated(machine, index + 3, last - 2, at, quoted_=quoted_), last
        return substituted(machine, index, last, backquoted=False, quoted_=quoted_), last
    if following == "[":
        return calculation.calculated(machine, index + 2, last - 1, at, quoted_=quoted_), last
    if following == "{":
        return parameters.braced(machine, index + 2, last - (text[last - 1] == "}"), at, quoted=quoted_), last
    return parameters.reference(machine, text[index + 1 : last], at, quoted=quoted_), last


def substituted(machine: Machine, start: int, end: int, *, backquoted: bool, quoted_: bool) -> Pieces:
    """What `$(…)` prints, as far as it can be known."""
    from vramlint.readers.shell.substitution import result

    text = machine.source.text
    at = Range(machine.source, start, end)
    inside = (start + 1, end - 1) if backquoted else (start + 2, end - (text[end - 1] == ")"))
    if backquoted and "\\" in text[inside[0] : inside[1]]:
        escaped = r"\\([$`\\\"])" if quoted_ else r"\\([$`\\])"
        unquoted = re.sub(escaped, r"\1", text[inside[0] : inside[1]])
        piece = Text(unquoted, Range(machine.source, *inside), machine.source.via(start), True)
        source, machine.source = machine.source, composed((piece,))
        found = result(machine, 0, len(unquoted), at, quoted=quoted_)
        machine.source = source
        return found
    return result(machine, inside[0], max(inside), at, quoted=quoted_)


def unescaped(text: str) -> str:
    """The text of `$'…'` and `echo -e`."""

    def character(match: re.Match[str]) -> str:
        body = match[1]
        if body[0] == "x":
            return chr(int(body[1:], 16))
        if body[0] in "01234567":
            return chr(int(body, 8) & 0xFF)
        if body[0] in "uU":
            code = int(body[1:], 16)
            return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "�"
        return _ESCAPES.get(body, body if body in "\\'\"?" else match[0])

    return re.sub(r"\\(x[0-9A-Fa-f]{1,2}|0?[0-7]{1,3}|u[0-9A-Fa-f]{1,4}|U[0-9A-Fa-f]{1,8}|.)", character, text)


def array(machine: Machine, start: int, end: int, *, associative: bool) -> Array:
    """The array that `( … )` between two offsets writes."""
    spans = cutting.tokens(machine.source.text, start, end)
    text = machine.source.text
    if not associative and not any(text[first_] == "[" and "]=" in text[first_:last] for first_, last in spans):
        return Array(tuple(_kept(item) for item, _, _ in fields(machine, spans)))
    keys: list[str] = []
    elements: list[Word] = []
    for first_, last in spans:
        close = text.find("]=", first_, last)
        if text[first_] == "[" and close > 0:
            key = known(quoted_key(machine, first_ + 1, close))
            keys.append(str(len(keys)) if key is None else key)
            elements.append(_kept(word(machine, close + 2, last)))
        else:
            keys.append(str(len(keys)))
            elements.append(_kept(word(machine, first_, last)))
    return Array(tuple(elements), tuple(keys), associative)


def quoted_key(machine: Machine, start: int, end: int) -> Pieces:
    """The subscript between two offsets."""
    return word(machine, start, end)


def _kept(item: Word) -> Word:
    return parameters.kept(item)

"""Text that a notebook hands to a shell: where its characters are written, with Python's values put in."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from vramlint import syntax
from vramlint.patterns import lazy
from vramlint.readers.excerpts import Excerpt, Piece
from vramlint.readers.quoted import excerpt_of
from vramlint.readers.templates import expanded
from vramlint.text import Place
from vramlint.values import Entry, Scalar, Unknown, Value

if TYPE_CHECKING:
    from vramlint.readers.notebook.names import Names

_BRACES = lazy(r"(?P<double>\{\{|\}\})|\{(?P<expression>[^{}]+)\}")
"""What an f-string fills."""

_INTERPOLATED = lazy(r"(?<!\$)\{(?P<expression>[^{}\n]+)\}|\$(?P<dollar>\$?[A-Za-z_]\w*)")
"""What IPython fills in a command or a magic's line (`DollarFormatter`)."""

_F_STRING = lazy(r"(?P<prefix>[fFrR]{1,2})(?P<quote>'''|\"\"\"|'|\")")
_PART = lazy(r"[^\\]+|\\(?P<letter>\r?\n|.)", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"', "\n": "", "\r\n": ""}
LONGEST = 20_000
"""Characters of a text with its values put in; what doubles a text line by line gets beyond that."""
_MOST = 200
"""Values that are put into one text."""


class Text(NamedTuple):
    """Text for a shell."""

    excerpt: Excerpt
    held: tuple[Entry, ...] = ()
    """Variables that stand in it for values that aren't known."""


def text_of_literal(names: Names, node: ast.expr) -> Text | None:
    """The text of a string literal, with an f-string's values put in; None for anything else."""
    place = names.place(node)
    if place is None:
        return None
    document = names.document
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return Text(excerpt_of(document, node.value, place))
    if not isinstance(node, ast.JoinedStr):
        return None
    start = document.offset(place.span.line, place.span.column)
    end = document.offset(place.span.end_line, place.span.end_column)
    pieces = _f_string(document.text, start, end)
    return _filled(names, Excerpt.of(document, pieces), _BRACES) if pieces is not None else None


def interpolated(names: Names, pieces: list[Piece]) -> Text:
    """A command or a magic's line with Python's values put in, as IPython does it."""
    return _filled(names, Excerpt.of(names.document, pieces), _INTERPOLATED)


def _filled(names: Names, excerpt: Excerpt, pattern: re.Pattern[str]) -> Text:
    inherited: dict[str, Entry] = {}
    room, left = LONGEST - len(excerpt.text), _MOST

    def lookup(match: re.Match[str]) -> Value | str | Excerpt | None:
        nonlocal room, left
        left -= 1
        if room < 0 or left < 0:
            return None
        groups = match.groupdict()
        if groups.get("double"):
            return groups["double"][0]
        dollar = groups.get("dollar")
        if dollar is None:
            found = _expression(names, groups["expression"] or "", sure=pattern is _BRACES)
        elif dollar.startswith("$"):
            return dollar
        else:
            quoted = match.string.count("'", match.end()) % 2
            found = _named(names, dollar) if dollar in names.values and not quoted else None
        room -= len(found.excerpt.text) if isinstance(found, Text) else 0
        if isinstance(found, Text) and room >= 0:
            inherited.update({entry.key: entry for entry in found.held})
            return found.excerpt
        if isinstance(found, Text):
            found = Unknown("a text too long to read")
        if isinstance(found, Unknown) and found.place is None:
            site = names.document.span(*excerpt.site(*match.span()))
            return replace(found, place=Place(names.document.path, site))
        return found

    filled, held = expanded(excerpt, pattern, lookup)
    return Text(filled, (*inherited.values(), *held))


def _expression(names: Names, source: str, *, sure: bool) -> Value | Text | None:
    """The value of `{source}`; None where IPython leaves it as it stands: it is no expression of known names."""
    try:
        node = syntax.expression(source.strip())
    except syntax.UNPARSED:
        return Unknown(f"`{{{source}}}` in Python") if sure else None
    if isinstance(node, ast.Name):
        return _named(names, node.id)
    used = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
    if not sure and not (used and used <= names.values.keys()):
        return None
    return Unknown(f"`{source.strip()}` in Python")


def _named(names: Names, name: str) -> Value | Text:
    text = names.texts.get(name)
    if text is not None:
        return text
    value = names.values.get(name) or Unknown(f"name {name}, which nothing defines")
    return Scalar(str(value.value), value.place, value.via) if isinstance(value, Scalar) else value


def _f_string(text: str, start: int, end: int) -> list[Piece] | None:
    """The characters between the quotes of one f-string; None for several that are joined, and for rare escapes."""
    opening = _F_STRING.match(text, start, end)
    if opening is None:
        return None
    quote = opening["quote"]
    inner_end = end - len(quote)
    if inner_end < opening.end() or quote in text[opening.end() : inner_end].replace(f"\\{quote}", ""):
        return None
    if "r" in opening["prefix"].lower():
        return [Piece(text[opening.end() : inner_end], opening.end(), inner_end)]
    pieces: list[Piece] = []
    for part in _PART.finditer(text, opening.end(), inner_end):
        letter = part["letter"]
        meant = part.group() if letter is None else _LETTERS.get(letter)
        if meant is None:
            return None
        pieces.append(Piece(meant, part.start(), part.end()))
    return pieces

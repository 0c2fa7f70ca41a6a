"""String literals and f-strings."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache
from types import MappingProxyType

import libcst as cst

from vramlint import syntax
from vramlint.patterns import lazy
from vramlint.readers.python.choices import each
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import (
    Object,
    Scope,
    computed,
)
from vramlint.readers.python.operators import reason_of
from vramlint.text import Place
from vramlint.values import Scalar, Unknown


def evaluate_string(machine: Machine, node: cst.SimpleString, _: Scope) -> Object:
    """A string literal; bytes are of no interest."""
    value = _value(node.value)
    place = machine.place(node)
    return Scalar(value, place) if isinstance(value, str) else Unknown("bytes", place)


@lru_cache(maxsize=4096)
def _value(written: str) -> str | bytes:
    """The text of a string literal; invalid escapes are taken as Python takes them, without its warning."""
    quoted = written.lstrip("rRuU")
    if "\\" not in written and quoted[0] in "\"'":
        quotes = 3 if quoted.startswith(('"""', "'''")) else 1
        return quoted[quotes:-quotes]
    try:
        found = syntax.literal(written)
    except syntax.UNPARSED:
        return b""
    return found if isinstance(found, (str, bytes)) else b""


@lru_cache(maxsize=1024)
def number_value(text: str) -> int | float | None:
    """The number that a literal stands for, None for one that is too long to read, or imaginary."""
    try:
        found: object = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return found if isinstance(found, (int, float)) else None


def evaluate_concatenated(machine: Machine, node: cst.ConcatenatedString, scope: Scope) -> Object:
    """Adjacent literals: `"a" "b"`."""
    place = machine.place(node)
    left, right = machine.evaluate(node.left, scope), machine.evaluate(node.right, scope)

    def joined(one: Object, other: Object) -> Object:
        if isinstance(one, Scalar) and isinstance(other, Scalar):
            via = "literal" if {one.via, other.via} == {"literal"} else "computed"
            return Scalar(f"{one.value}{other.value}", place, via)
        return Unknown(reason_of(other if isinstance(one, Scalar) else one), place)

    return each(joined, left, right)


def evaluate_formatted(machine: Machine, node: cst.FormattedString, scope: Scope) -> Object:
    """An f-string, known when all its parts are."""
    place = machine.place(node)
    parts = [_part(machine, part, scope, place) for part in node.parts]

    def joined(*pieces: Object) -> Object:
        texts = [str(piece.value) for piece in pieces if isinstance(piece, Scalar)]
        if len(texts) == len(pieces):
            return computed("".join(texts), place)
        return Unknown(next(reason_of(piece) for piece in pieces if not isinstance(piece, Scalar)), place)

    return each(joined, *parts)


def _part(machine: Machine, part: cst.BaseFormattedStringContent, scope: Scope, place: Place) -> Object:
    if isinstance(part, cst.FormattedStringText):
        return computed(part.value.replace("{{", "{").replace("}}", "}"), None)
    if not isinstance(part, cst.FormattedStringExpression):
        return Unknown("formatted text", place)
    item = machine.evaluate(part.expression, scope)
    if part.format_spec is None and part.conversion is None and part.equal is None:
        return item
    pieces = [_part(machine, piece, scope, place) for piece in part.format_spec or ()]
    spec = "".join(str(piece.value) if isinstance(piece, Scalar) else "\0" for piece in pieces)
    before = f"{machine.text(part.expression)}=" if part.equal is not None else ""
    conversion = part.conversion or ("r" if before and not spec else "")

    def written(one: Object) -> Object:
        if not isinstance(one, Scalar) or not _MODEST.fullmatch(spec):
            return Unknown(reason_of(one), place) if not isinstance(one, Scalar) else Unknown("formatted text", place)
        value = _CONVERSIONS[conversion](one.value) if conversion else one.value
        try:
            return computed(before + format(value, spec), place)
        except (TypeError, ValueError):
            return Unknown("formatting that fails", place)

    return each(written, item)


_CONVERSIONS: MappingProxyType[str, Callable[[object], str]] = MappingProxyType({"r": repr, "s": str, "a": ascii})

_MODEST = lazy(r"[^\d\0]*\d{0,3}(\.\d{0,2})?[^\d\0]*")
"""Formats that make no text of unusual width."""

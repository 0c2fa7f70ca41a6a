"""String literals and f-strings."""

from __future__ import annotations

import ast
import warnings

import libcst as cst

from vramlint.readers.python.choices import each
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import (
    Object,
    Scope,
    computed,
)
from vramlint.readers.python.operators import reason_of
from vramlint.values import Scalar, Unknown


def evaluate_string(machine: Machine, node: cst.SimpleString, _: Scope) -> Object:
    """A string literal; bytes are of no interest."""
    value = string_value(node)
    place = machine.place(node)
    return Scalar(value, place) if isinstance(value, str) else Unknown("bytes", place)


def string_value(node: cst.SimpleString) -> str | bytes:
    """The text of a string literal; invalid escapes are taken as Python takes them, without its warning."""
    if "\\" not in node.value and "b" not in node.prefix:
        return node.raw_value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found: str | bytes = ast.literal_eval(node.value)
        except (ValueError, SyntaxError):
            return b""
    return found


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
    """An f-string, known when all its parts are and none has a format."""
    place = machine.place(node)
    parts: list[Object] = []
    for part in node.parts:
        if isinstance(part, cst.FormattedStringText):
            parts.append(computed(part.value.replace("{{", "{").replace("}}", "}"), None))
        elif isinstance(part, cst.FormattedStringExpression):
            item = machine.evaluate(part.expression, scope)
            plain = part.format_spec is None and part.conversion is None and part.equal is None
            parts.append(item if plain else Unknown("formatted text", place))

    def joined(*pieces: Object) -> Object:
        texts = [str(piece.value) for piece in pieces if isinstance(piece, Scalar)]
        if len(texts) == len(pieces):
            return computed("".join(texts), place)
        return Unknown(next(reason_of(piece) for piece in pieces if not isinstance(piece, Scalar)), place)

    return each(joined, *parts)

"""What kind of value a name or a part of an expression has, and which comparisons mean something.

A rule that compares a text with a number, a text that has a few possible values with another, or bytes with tokens is
refused when it is loaded: at run time it would only ever be silent.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType

from msgspec import Struct

from vramlint.engine.expression import ExpressionError, dotted


class Kind(Enum):
    """A kind of value, in words."""

    NUMBER = "a number"
    TEXT = "text"
    TRUTH = "true or false"
    TEXTS = "a list of texts"
    NUMBERS = "a list of numbers"
    NULL = "null"


class Type(Struct, frozen=True):
    """The values that something may have."""

    kinds: frozenset[Kind]
    values: tuple[str, ...] = ()
    """All texts that it may be, or that may be in it; empty where they are not bounded."""
    unit: str = ""
    """Of a number: bytes, tokens, …; empty for counts and ratios."""

    def __or__(self, other: Type) -> Type:
        """What is of either type."""
        bounded = all(side.values or side.kinds.isdisjoint(_TEXTUAL) for side in (self, other))
        return Type(self.kinds | other.kinds, self.values + other.values if bounded else (), self.unit or other.unit)

    @property
    def words(self) -> str:
        """The type as people say it."""
        kinds = " or ".join(kind.value for kind in Kind if kind in self.kinds)
        return f"{kinds} of {self.unit}" if self.unit else kinds


_TEXTUAL = frozenset({Kind.TEXT, Kind.TEXTS})


def of(*kinds: Kind, values: Iterable[str] = (), unit: str = "") -> Type:
    """A type of those kinds."""
    return Type(frozenset(kinds), tuple(values), unit)


TypeOf = Callable[[str], Type]
"""The type of a name that exists."""


def check_condition(tree: ast.expr, type_of: TypeOf) -> None:
    """Check that an expression is a condition whose parts go together.

    Raises:
        ExpressionError: it is not; with the part and the nearest possible value.
    """
    found = infer(tree, type_of)
    if Kind.TRUTH not in found.kinds:
        raise ExpressionError(f"`{ast.unparse(tree)}` is {found.words}, not a condition")


def check_value(name: str, value: object, type_of: TypeOf) -> None:
    """Check that a name may have a plain value.

    Raises:
        ExpressionError: it may not; with the nearest possible value.
    """
    known, given = type_of(name), _of_constant(value)
    left, right = ast.parse(name, mode="eval").body, ast.Constant(value)  # type: ignore[arg-type]  # a plain value
    if not known.kinds & given.kinds:
        raise UnlikeError(left, known, right, given)
    _check_values(left, known, right)


def infer(node: ast.expr, type_of: TypeOf) -> Type:
    """The type of an expression that `expression.parse` has accepted.

    Raises:
        ExpressionError: parts that do not go together.
    """
    name = dotted(node)
    if name is not None:
        return type_of(name)
    match node:
        case ast.Constant(value=value):
            return _of_constant(value)
        case ast.BoolOp(values=operands):
            for operand in operands:
                check_condition(operand, type_of)
            return _TRUTH
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            check_condition(operand, type_of)
            return _TRUTH
        case ast.UnaryOp(operand=operand):
            return _number(operand, type_of)
        case ast.BinOp(left=left, right=right):
            return _of_sum(node, _number(left, type_of), _number(right, type_of))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for first, op, second in zip((left, *comparators), ops, comparators, strict=False):
                _check_comparison(first, op, second, type_of)
            return _TRUTH
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return _of_list(node, [infer(element, type_of) for element in elements])
        case ast.Call(func=ast.Name(id=function), args=arguments):
            return _of_call(node, function, arguments, type_of)
    raise ExpressionError(f"{type(node).__name__} is not part of the language")


_TRUTH = of(Kind.TRUTH)
_CONSTANTS: Mapping[type, Type] = MappingProxyType(
    {bool: _TRUTH, int: of(Kind.NUMBER), float: of(Kind.NUMBER), str: of(Kind.TEXT), type(None): of(Kind.NULL)}
)


def _of_constant(value: object) -> Type:
    return _CONSTANTS[type(value)]


def _number(node: ast.expr, type_of: TypeOf) -> Type:
    found = infer(node, type_of)
    if Kind.NUMBER not in found.kinds:
        raise ExpressionError(f"`{ast.unparse(node)}` is {found.words}, not a number")
    return Type(frozenset({Kind.NUMBER}), (), found.unit)


def _of_sum(node: ast.BinOp, left: Type, right: Type) -> Type:
    """Sums are of one unit, a quotient of the same is a ratio, a product of two is of none that has a name here."""
    if isinstance(node.op, ast.Add | ast.Sub | ast.Mod):
        _check_units(node, left, right)
        return Type(left.kinds, (), left.unit or right.unit)
    if isinstance(node.op, ast.Mult):
        return Type(left.kinds, (), "" if left.unit and right.unit else left.unit or right.unit)
    return Type(left.kinds, (), "" if right.unit else left.unit)


def _check_units(node: ast.expr, left: Type, right: Type) -> None:
    if left.unit and right.unit and left.unit != right.unit:
        raise ExpressionError(f"`{ast.unparse(node)}` is about {left.unit} and {right.unit}")


def _of_list(node: ast.expr, elements: Sequence[Type]) -> Type:
    for kind, several in ((Kind.TEXT, Kind.TEXTS), (Kind.NUMBER, Kind.NUMBERS)):
        if all(kind in element.kinds for element in elements):
            return of(several)
    raise ExpressionError(f"`{ast.unparse(node)}` is neither a list of texts nor one of numbers")


def _of_call(node: ast.Call, function: str, arguments: Sequence[ast.expr], type_of: TypeOf) -> Type:
    if function in ("known", "abs", "len") and len(arguments) != 1:
        raise ExpressionError(f"{function}(…) takes one value, `{ast.unparse(node)}` has {len(arguments)}")
    if function == "known":
        infer(arguments[0], type_of)
        return _TRUTH
    if function == "len":
        found = infer(arguments[0], type_of)
        if found.kinds.isdisjoint({Kind.TEXT, Kind.TEXTS, Kind.NUMBERS}):
            raise ExpressionError(f"`{ast.unparse(arguments[0])}` is {found.words}, which has no length")
        return of(Kind.NUMBER)
    first, *others = [_number(argument, type_of) for argument in arguments]
    for other in others:
        _check_units(node, first, other)
    return first


def _check_comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, type_of: TypeOf) -> None:
    if isinstance(op, ast.In | ast.NotIn):
        _check_membership(left, right, type_of)
    elif isinstance(op, ast.Eq | ast.NotEq):
        _check_equality(left, right, type_of)
    else:
        first, second = infer(left, type_of), infer(right, type_of)
        common = first.kinds & second.kinds & _ORDERED
        if not common:
            raise UnlikeError(left, first, right, second)
        _check_units(ast.Compare(left, [op], [right]), first, second)


_ORDERED = frozenset({Kind.NUMBER, Kind.NUMBERS})


def _check_equality(left: ast.expr, right: ast.expr, type_of: TypeOf) -> None:
    first, second = infer(left, type_of), infer(right, type_of)
    if not first.kinds & second.kinds:
        raise UnlikeError(left, first, right, second)
    _check_units(ast.Compare(left, [ast.Eq()], [right]), first, second)
    _check_values(left, first, right)
    _check_values(right, second, left)


def _check_membership(left: ast.expr, right: ast.expr, type_of: TypeOf) -> None:
    if isinstance(right, ast.List | ast.Tuple):
        for element in right.elts:
            _check_equality(left, element, type_of)
        return
    first, second = infer(left, type_of), infer(right, type_of)
    fits = any(one in first.kinds and other in second.kinds for one, other in _HOLDS)
    if not fits:
        raise UnlikeError(left, first, right, second)
    if Kind.TEXTS in second.kinds:
        _check_values(right, second, left)


_HOLDS = ((Kind.TEXT, Kind.TEXT), (Kind.TEXT, Kind.TEXTS), (Kind.NUMBER, Kind.NUMBERS))


class UnlikeError(ExpressionError):
    """Two parts that are never equal, whatever they are."""

    def __init__(self, left: ast.expr, first: Type, right: ast.expr, second: Type) -> None:
        told = f"`{ast.unparse(left)}` is {first.words}, `{ast.unparse(right)}` is {second.words}"
        hint = "; `known(…)` asks for what is not known" if Kind.NULL in first.kinds | second.kinds else ""
        super().__init__(told + hint)


def _check_values(node: ast.expr, bounded: Type, other: ast.expr) -> None:
    """A text that a name is compared with is one of those that it may be."""
    if not (bounded.values and isinstance(other, ast.Constant) and isinstance(other.value, str)):
        return
    if other.value in bounded.values:
        return
    from vramlint.catalog.nearest import nearest  # only a wrong rule pays for it

    close = nearest(other.value, bounded.values, count=1, cutoff=0.5)
    meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(bounded.values[:_SHOWN])}"
    verb = "never holds" if Kind.TEXTS in bounded.kinds else "is never"
    raise ExpressionError(f"`{ast.unparse(node)}` {verb} {other.value!r}; {meant}")


_SHOWN = 10
"""Possible values that an error lists at the most."""

"""The language of a rule's `when`: a small, side-effect-free subset of Python expressions.

Python's own parser gives the tree; only the node kinds below are accepted, and every name must be one
that `vramlint.engine.names` exposes. Evaluation walks the tree over plain values, so no Python object, attribute
or call is within reach. A name whose value is not known yields `UNKNOWN`, which propagates as in
Kleene's three-valued logic: `unknown and false` is false, `unknown and true` is unknown.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

MAX_LENGTH = 2000
"""Characters of source."""
MAX_NODES = 400
MAX_DEPTH = 30
MAX_MAGNITUDE = 1e30
"""Numbers beyond this are unknown, so that no expression can build an integer that takes time."""


class Unknown:
    """The third truth value. There is one instance, `UNKNOWN`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        raise TypeError("an unknown value has no truth value: compare with `is UNKNOWN`")


UNKNOWN = Unknown()

Term = object
"""What names resolve to: None, bool, int, float, str, tuple of those, or UNKNOWN."""
Lookup = Callable[[str], Term]


class ExpressionError(ValueError):
    """The expression is not of the language; the message says where and what was meant."""


class Expression(Struct, frozen=True):
    """A checked expression."""

    source: str
    tree: ast.expr

    def evaluate(self, lookup: Lookup) -> Term:
        """The value over `lookup`; never raises, a sum that makes no sense is UNKNOWN."""
        return _evaluate(self.tree, lookup)


def parse(source: str, known: Callable[[str], str | None]) -> Expression:
    """Check and keep an expression.

    Args:
        source: text of at most `MAX_LENGTH` characters.
        known: None for a name that exists, otherwise the complaint about it.

    Raises:
        ExpressionError: too long, too deep, not an expression, a node outside the language, an unknown name.
    """
    tree = _python_tree(source)
    pending: list[tuple[ast.expr, int]] = [(tree, 1)]
    count = 0
    while pending:
        node, depth = pending.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            raise ExpressionError(f"nested too deeply or too long (at most {MAX_DEPTH} levels, {MAX_NODES} parts)")
        name = dotted(node)
        if name is not None:
            complaint = known(name)
            if complaint is not None:
                raise ExpressionError(complaint)
            continue
        pending += ((child, depth + 1) for child in _children(node))
    return Expression(source, tree)


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` of a chain of attributes on a name, None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join((node.id, *reversed(parts)))


def _python_tree(source: str) -> ast.expr:
    if len(source) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source.strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"not an expression: {error.msg} (column {error.offset})") from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("not an expression") from None


def _children(node: ast.expr) -> tuple[ast.expr, ...]:
    """The parts of a node that the language allows; raises for any other node."""
    match node:
        case ast.Constant(value=bool() | str() | None):
            return ()
        case ast.Constant(value=int() | float() as value) if abs(value) <= MAX_MAGNITUDE:
            return ()
        case ast.BoolOp(values=values):
            return tuple(values)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return (operand,)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return (left, right)
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARISONS for op in ops):
            return (left, *comparators)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return tuple(elements)
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]) if function in FUNCTIONS and arguments:
            return tuple(arguments)
        case ast.Call(func=ast.Name(id=function)):
            raise ExpressionError(f"no function {function}(…); there are {', '.join(FUNCTIONS)}")
        case _:
            raise ExpressionError(f"{type(node).__name__} at column {node.col_offset + 1} is not part of the language")


def _evaluate(node: ast.expr, lookup: Lookup) -> Term:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            return lookup(dotted(node) or "")
        case ast.BoolOp(op=op, values=values):
            return _connect(isinstance(op, ast.And), (_evaluate(value, lookup) for value in values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _negate(_evaluate(operand, lookup))
        case ast.UnaryOp(operand=operand):
            return _calculate(operator.sub, 0, _evaluate(operand, lookup))
        case ast.BinOp(left=left, op=op, right=right):
            return _calculate(_ARITHMETIC[type(op)], _evaluate(left, lookup), _evaluate(right, lookup))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            operands = [_evaluate(operand, lookup) for operand in (left, *comparators)]
            pairs = zip(operands, ops, operands[1:], strict=False)
            return _connect(True, (_compare(_COMPARISONS[type(op)], first, second) for first, op, second in pairs))
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            items = tuple(_evaluate(element, lookup) for element in elements)
            return UNKNOWN if UNKNOWN in items else items
        case ast.Call(func=ast.Name(id=function), args=arguments):
            return _call(FUNCTIONS[function], tuple(_evaluate(argument, lookup) for argument in arguments))
        case _:
            return UNKNOWN


def _truth(value: Term) -> Term:
    """The truth of a value: unknown stays unknown, everything else as in Python."""
    return UNKNOWN if isinstance(value, Unknown) else bool(value)


def _connect(conjunction: bool, values: Iterable[Term]) -> Term:
    """Kleene's `and` (or `or`), short-circuiting on the deciding value."""
    result: Term = conjunction
    for value in values:
        held = _truth(value)
        if held is (not conjunction):
            return held
        if held is UNKNOWN:
            result = UNKNOWN
    return result


def _negate(value: Term) -> Term:
    held = _truth(value)
    return held if held is UNKNOWN else not held


def _is_number(value: Term) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _calculate(operation: Callable[[int, int], Term], left: Term, right: Term) -> Term:
    """Arithmetic on numbers alone: strings and lists would make `"a" * 10**9` possible."""
    if not (_is_number(left) and _is_number(right)):
        return UNKNOWN
    try:
        result = operation(left, right)  # type: ignore[arg-type]  # both are numbers, as just tested
    except (ArithmeticError, ValueError):
        return UNKNOWN
    return result if isinstance(result, (int, float)) and abs(result) <= MAX_MAGNITUDE else UNKNOWN


def _compare(operation: Callable[[Term, Term], Term], left: Term, right: Term) -> Term:
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    try:
        return operation(left, right)
    except TypeError:
        return UNKNOWN


def _call(function: Callable[..., Term], arguments: tuple[Term, ...]) -> Term:
    if UNKNOWN in arguments and function is not _known:
        return UNKNOWN
    try:
        return function(*arguments)
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN


def _same_kind(operation: Callable[[Term, Term], Term]) -> Callable[[Term, Term], Term]:
    """Equality that keeps numbers and truth values apart: `facts.lora_r == true` is not about the number 1."""

    def compare(left: Term, right: Term) -> Term:
        if isinstance(left, bool) is not isinstance(right, bool):
            return operation is operator.ne
        return operation(left, right)

    return compare


def _ordered(operation: Callable[..., Term]) -> Callable[[Term, Term], Term]:
    """An ordering; what Python cannot order is caught as TypeError by the caller."""
    return operation


_ARITHMETIC: Mapping[type[ast.operator], Callable[[int, int], Term]] = MappingProxyType(
    {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
    }
)

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Term, Term], Term]] = MappingProxyType(
    {
        ast.Eq: _same_kind(operator.eq),
        ast.NotEq: _same_kind(operator.ne),
        ast.Lt: _ordered(operator.lt),
        ast.LtE: _ordered(operator.le),
        ast.Gt: _ordered(operator.gt),
        ast.GtE: _ordered(operator.ge),
        ast.In: lambda left, right: operator.contains(right, left),  # type: ignore[arg-type]  # TypeError is caught
        ast.NotIn: lambda left, right: not operator.contains(right, left),  # type: ignore[arg-type]  # same
    }
)


def _known(value: Term) -> bool:
    return value is not UNKNOWN


FUNCTIONS: Mapping[str, Callable[..., Term]] = MappingProxyType(
    {"min": min, "max": max, "abs": abs, "len": len, "known": _known}
)
"""The functions of the language. `known` alone sees the unknown: it turns it into false."""

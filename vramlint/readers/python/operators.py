"""Arithmetic, comparison and membership on known objects; unknown in, unknown out."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import libcst as cst

from vramlint.patterns import lazy
from vramlint.readers.python.choices import each, same
from vramlint.readers.python.objects import (
    Attribute,
    Choice,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    Sequence,
    Slot,
    computed,
)
from vramlint.readers.python.truth import is_none
from vramlint.text import Place
from vramlint.values import Name, Plain, Scalar, Unknown

_LARGEST = 10_000
"""Strings and lists are not grown beyond this, numbers not beyond this many bits."""

BINARY: MappingProxyType[type[cst.CSTNode], Callable[[Any, Any], Any]] = MappingProxyType(
    {
        cst.Add: operator.add,
        cst.AddAssign: operator.add,
        cst.Subtract: operator.sub,
        cst.SubtractAssign: operator.sub,
        cst.Multiply: operator.mul,
        cst.MultiplyAssign: operator.mul,
        cst.Divide: operator.truediv,
        cst.DivideAssign: operator.truediv,
        cst.FloorDivide: operator.floordiv,
        cst.FloorDivideAssign: operator.floordiv,
        cst.Modulo: operator.mod,
        cst.ModuloAssign: operator.mod,
        cst.Power: operator.pow,
        cst.PowerAssign: operator.pow,
        cst.LeftShift: operator.lshift,
        cst.RightShift: operator.rshift,
        cst.BitAnd: operator.and_,
        cst.BitOr: operator.or_,
        cst.BitOrAssign: operator.or_,
        cst.BitXor: operator.xor,
    }
)

COMPARISONS: MappingProxyType[type[cst.CSTNode], Callable[[Any, Any], bool]] = MappingProxyType(
    {
        cst.LessThan: operator.lt,
        cst.LessThanEqual: operator.le,
        cst.GreaterThan: operator.gt,
        cst.GreaterThanEqual: operator.ge,
    }
)

_UNARY: MappingProxyType[type[cst.CSTNode], Callable[[Any], Any]] = MappingProxyType(
    {cst.Minus: operator.neg, cst.Plus: operator.pos, cst.BitInvert: operator.invert}
)


def reason_of(item: Object) -> str:
    """Why an object is not known."""
    match item:
        case Unknown():
            return item.reason
        case Attribute():
            inner = reason_of(item.receiver) if isinstance(item.receiver, (Unknown, Attribute)) else ""
            return inner or f"attribute {item.name} of {describe(item.receiver)}"
        case Choice():
            return next((reason_of(option) for option, _ in item.options if not isinstance(option, Scalar)), "a choice")
    return f"depends on {describe(item)}"


def describe(item: Object) -> str:
    """A few words for what an object is."""
    match item:
        case Name():
            return item.qualified
        case LibraryObject():
            return item.callee.removeprefix(".")
        case Instance():
            return item.kind.name if item.kind else "the command line"
    return f"a {type(item).__name__.lower()}"


def binary(kind: type[cst.CSTNode], left: Object, right: Object, place: Place) -> Object:
    """`left <op> right`."""
    return each(lambda one, other: _binary(kind, one, other, place), left, right)


def _binary(kind: type[cst.CSTNode], left: Object, right: Object, place: Place) -> Object:
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        return _scalars(kind, left.value, right.value, place)
    if isinstance(left, Scalar) and isinstance(left.value, str) and kind is cst.Modulo:
        return _format(left.value, right, place)
    if isinstance(left, Sequence):
        return _sequence(kind, left, right, place)
    if isinstance(left, Mapping) and isinstance(right, Mapping) and kind in (cst.BitOr, cst.BitOrAssign):
        return Mapping({**left.state, **right.state}, place)
    doubtful = right if isinstance(left, Scalar) else left
    return Unknown(reason_of(doubtful), place)


def _scalars(kind: type[cst.CSTNode], left: Plain, right: Plain, place: Place) -> Object:
    function = BINARY.get(kind)
    if function is None or not _is_small(kind, left, right):
        return Unknown("arithmetic", place)
    if isinstance(left, str) and isinstance(right, str) and function is operator.truediv:
        # only pathlib divides text, and paths are kept as their text here
        return computed(right if right.startswith("/") else f"{left.rstrip('/')}/{right}", place)
    try:
        result = function(left, right)
    except (TypeError, ValueError, ArithmeticError):
        return Unknown("arithmetic that fails", place)
    return computed(result, place) if isinstance(result, (str, int, float)) else Unknown("arithmetic", place)


def _is_small(kind: type[cst.CSTNode], left: Plain, right: Plain) -> bool:
    """Whether the result stays of moderate size."""
    sizes = [len(item) if isinstance(item, str) else 0 for item in (left, right)]
    numbers = [abs(item) for item in (left, right) if isinstance(item, int)]
    if kind in (cst.Power, cst.PowerAssign, cst.LeftShift):
        return isinstance(right, (int, float)) and abs(right) <= 256 and all(item < 2**64 for item in numbers)
    if any(sizes) and kind in (cst.Multiply, cst.MultiplyAssign):
        return max(sizes) * max(numbers, default=0) <= _LARGEST
    return sum(sizes) <= _LARGEST and all(item.bit_length() < _LARGEST for item in numbers)


def _format(template: str, right: Object, place: Place) -> Object:
    values: Any
    if isinstance(right, Scalar):
        values = right.value
    elif isinstance(right, Sequence) and right.elements is not None:
        plains = [item.value for item in right.elements if isinstance(item, Scalar)]
        if len(plains) != len(right.elements):
            return Unknown("text built from unknown parts", place)
        values = tuple(plains)
    else:
        return Unknown(reason_of(right), place)
    if any(digit * 4 in template for digit in "0123456789") or "*" in template:
        return Unknown("text of unusual width", place)
    try:
        return computed(template % values, place)
    except (TypeError, ValueError, KeyError):
        return Unknown("formatting that fails", place)


_SETS: MappingProxyType[type[cst.CSTNode], bool] = MappingProxyType(
    {cst.Subtract: False, cst.SubtractAssign: False, cst.BitAnd: True, cst.BitAndAssign: True}
)
"""Operators of sets that keep the elements that are, or are not, in the other one."""


def _sequence(kind: type[cst.CSTNode], left: Sequence, right: Object, place: Place) -> Object:
    ours = left.elements
    if ours is not None and kind in (cst.Add, cst.AddAssign, cst.BitOr) and isinstance(right, Sequence):
        theirs = right.elements
        if theirs is not None and len(ours) + len(theirs) <= _LARGEST:
            return Sequence.of((*ours, *theirs), place)
    kept = _SETS.get(kind)
    if kept is not None and ours is not None and isinstance(right, Sequence) and right.elements is not None:
        found = [_contains(right, element) for element in ours]
        if None not in found:
            return Sequence.of(tuple(item for item, inside in zip(ours, found, strict=True) if inside is kept), place)
    if ours is not None and kind is cst.Multiply and isinstance(right, Scalar) and isinstance(right.value, int):
        return Sequence.of(ours * right.value, place) if len(ours) * right.value <= 64 else Unknown("long list", place)
    return Unknown("list arithmetic", place)


def unary(node: cst.UnaryOperation, item: Object, place: Place) -> Object:
    """`-x`, `+x`, `~x`; a signed number stays a literal."""
    return each(lambda one: _unary(node, one, place), item)


def _unary(node: cst.UnaryOperation, item: Object, place: Place) -> Object:
    function = _UNARY.get(type(node.operator))
    if function is None or not isinstance(item, Scalar) or not isinstance(item.value, (int, float)):
        return Unknown(reason_of(item), place)
    try:
        value: Plain = function(item.value)
    except TypeError:
        return Unknown("arithmetic that fails", place)
    is_number = isinstance(node.expression, (cst.Integer, cst.Float)) and not isinstance(node.operator, cst.BitInvert)
    return Scalar(value, place, "literal" if is_number else "computed")


def compare(kind: cst.BaseCompOp, left: Object, right: Object, place: Place) -> Object:
    """One comparison."""
    return each(lambda one, other: _compared(kind, one, other, place), left, right)


def _compared(kind: cst.BaseCompOp, left: Object, right: Object, place: Place) -> Object:
    found = _outcome(kind, left, right)
    if found is None:
        doubtful = right if isinstance(left, Scalar) else left
        return Unknown(reason_of(doubtful), place)
    return computed(found, _written_at(left, right, place))


def _written_at(left: Object, right: Object, place: Place) -> Place:
    """Where a comparison's outcome is written: at the only operand that stands elsewhere (`args.bits == 4`)."""
    elsewhere = [
        item.place
        for item in (left, right)
        if isinstance(item, (Scalar, Name))
        and item.place is not None
        and not (place.span.line <= item.place.span.line <= place.span.end_line)
    ]
    return elsewhere[0] if len(elsewhere) == 1 else place


_POSITIVE: MappingProxyType[type[cst.CSTNode], bool] = MappingProxyType(
    {cst.Equal: True, cst.Is: True, cst.In: True, cst.NotEqual: False, cst.IsNot: False, cst.NotIn: False}
)
"""Comparisons by whether they hold where the sides are equal, or the left one is in the right one."""


def _outcome(kind: cst.BaseCompOp, left: Object, right: Object) -> bool | None:
    positive = _POSITIVE.get(type(kind))
    if positive is not None:
        found = _contains(right, left) if type(kind) in (cst.In, cst.NotIn) else _equal(left, right)
        return None if found is None else found is positive
    ours, theirs = _ordered(left), _ordered(right)
    function = COMPARISONS.get(type(kind))
    if function is None or ours is None or theirs is None:
        return None
    try:
        return function(ours, theirs)
    except TypeError:
        return None


def _ordered(item: Object) -> Any:  # noqa: ANN401 (numbers, strings and tuples of them compare alike)
    if isinstance(item, Scalar):
        return item.value
    if isinstance(item, Sequence) and item.elements is not None:
        values = [element.value for element in item.elements if isinstance(element, Scalar)]
        return tuple(values) if len(values) == len(item.elements) else None
    return None


_TORCH_DTYPE = lazy(r"torch\.(?:b?float|half|double|u?int|short|long|bool|complex)\d*(?:_\w+)?$")
"""Objects of torch that no number or text equals."""


def _equal(left: Object, right: Object) -> bool | None:
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        return left.value == right.value
    if isinstance(left, Name) and isinstance(right, Name):
        # names of one module are different things; the same thing may have names in two modules
        if left.qualified == right.qualified:
            return True
        return False if left.qualified.rpartition(".")[0] == right.qualified.rpartition(".")[0] else None
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Scalar) and one.value is None:
            if isinstance(other, Name) and other.qualified.startswith("torch."):
                return False
            return is_none(other)
        if isinstance(one, Scalar) and isinstance(other, Name) and _TORCH_DTYPE.match(other.qualified):
            return False
        if isinstance(one, Scalar) and isinstance(other, (Sequence, Mapping)):
            return False
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        ours, theirs = _ordered(left), _ordered(right)
        return ours == theirs if ours is not None and theirs is not None else None
    return None


def _contains(container: Object, item: Object) -> bool | None:
    if isinstance(container, Scalar) and isinstance(item, Scalar):
        if isinstance(container.value, str) and isinstance(item.value, str):
            return item.value in container.value
        return None
    if isinstance(container, Mapping) and isinstance(item, Scalar):
        if str(item.value) in container.state:
            slot: Slot = container.state[str(item.value)]
            return None if isinstance(slot.value, Choice) else True
        return None if container.open else False
    if isinstance(container, Sequence) and container.elements is not None:
        outcomes = [_equal(element, item) for element in container.elements]
        if True in outcomes or any(same(element, item) for element in container.elements):
            return True
        return None if None in outcomes else False
    return None

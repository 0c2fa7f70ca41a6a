"""LibCST's operators by the names that CPython's syntax tree has for them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import libcst as cst

_OPERATORS: Mapping[str, type[cst.CSTNode]] = MappingProxyType(
    {
        "Add": cst.Add,
        "Sub": cst.Subtract,
        "Mult": cst.Multiply,
        "MatMult": cst.MatrixMultiply,
        "Div": cst.Divide,
        "FloorDiv": cst.FloorDivide,
        "Mod": cst.Modulo,
        "Pow": cst.Power,
        "LShift": cst.LeftShift,
        "RShift": cst.RightShift,
        "BitOr": cst.BitOr,
        "BitAnd": cst.BitAnd,
        "BitXor": cst.BitXor,
        "And": cst.And,
        "Or": cst.Or,
        "Not": cst.Not,
        "Invert": cst.BitInvert,
        "USub": cst.Minus,
        "UAdd": cst.Plus,
        "Eq": cst.Equal,
        "NotEq": cst.NotEqual,
        "Lt": cst.LessThan,
        "LtE": cst.LessThanEqual,
        "Gt": cst.GreaterThan,
        "GtE": cst.GreaterThanEqual,
        "Is": cst.Is,
        "IsNot": cst.IsNot,
        "In": cst.In,
        "NotIn": cst.NotIn,
    }
)
_AUGMENTED: Mapping[str, type[cst.BaseAugOp]] = MappingProxyType(
    {
        "Add": cst.AddAssign,
        "Sub": cst.SubtractAssign,
        "Mult": cst.MultiplyAssign,
        "MatMult": cst.MatrixMultiplyAssign,
        "Div": cst.DivideAssign,
        "FloorDiv": cst.FloorDivideAssign,
        "Mod": cst.ModuloAssign,
        "Pow": cst.PowerAssign,
        "LShift": cst.LeftShiftAssign,
        "RShift": cst.RightShiftAssign,
        "BitOr": cst.BitOrAssign,
        "BitAnd": cst.BitAndAssign,
        "BitXor": cst.BitXorAssign,
    }
)


def operator_of(node: ast.operator | ast.boolop | ast.unaryop | ast.cmpop) -> cst.CSTNode:
    """The one node for all operators of a kind, which nobody asks for the places of."""
    return _made(_OPERATORS[type(node).__name__])


def augmented(node: ast.operator) -> cst.CSTNode:
    """The same with the assignment of its result."""
    return _made(_AUGMENTED[type(node).__name__])


@cache
def _made(kind: type[cst.CSTNode]) -> cst.CSTNode:
    return kind()

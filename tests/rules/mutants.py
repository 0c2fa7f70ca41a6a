"""Small changes of a condition, each of which its examples have to notice."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import TypeVar, cast

Tree = TypeVar("Tree", bound=ast.AST)

NEGATED: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Lt: ast.GtE(),
    ast.LtE: ast.Gt(),
    ast.Gt: ast.LtE(),
    ast.GtE: ast.Lt(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
BOUNDS: dict[type[ast.cmpop], ast.cmpop] = {ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt()}
"""The same comparison with the bound itself on the other side."""


def mutants(tree: Tree, fixed: Callable[[ast.Compare], bool] = lambda _: False) -> Iterator[tuple[Tree, str]]:
    """The tree with one change, and the change in words; bounds of `fixed` comparisons stay where they are."""
    for index, node in enumerate(ast.walk(tree)):
        for variant in variants(node, fixed):
            yield replaced(tree, index, variant), f"{ast.unparse(node)}  →  {ast.unparse(variant)}"


def variants(node: ast.AST, fixed: Callable[[ast.Compare], bool]) -> Iterator[ast.expr]:
    """What may stand in a node's place: fewer operands or list elements, the opposite, another bound."""
    match node:
        case ast.BoolOp(op=connective, values=values):
            for rest in _less_one(values):
                yield rest[0] if len(rest) == 1 else ast.BoolOp(connective, rest)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.Compare(left=left, ops=ops, comparators=[*before, last]) as node:
            for table in (NEGATED,) if fixed(node) else (NEGATED, BOUNDS):
                for index, op in enumerate(ops):
                    if type(op) in table:
                        yield ast.Compare(left, [*ops[:index], table[type(op)], *ops[index + 1 :]], [*before, last])
            if isinstance(ops[-1], ast.In | ast.NotIn) and isinstance(last, ast.List | ast.Tuple):
                for elements in _less_one(last.elts):
                    yield ast.Compare(left, ops, [*before, ast.List(elements, ast.Load())])


def replaced(tree: Tree, index: int, variant: ast.expr) -> Tree:
    """A copy of the tree with `variant` in place of the node that `ast.walk` gives at `index`."""
    copy = deepcopy(tree)
    old = next(node for number, node in enumerate(ast.walk(copy)) if number == index)

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return variant if node is old else self.generic_visit(node)

    changed = Replace().visit(copy)
    return cast("Tree", changed)


def _less_one(values: Sequence[ast.expr]) -> Iterator[list[ast.expr]]:
    for index in range(len(values) if len(values) > 1 else 0):
        yield [*values[:index], *values[index + 1 :]]

"""Makes nodes of LibCST without its constructors, which check and default every field of whitespace anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from functools import partial
from typing import Any

import libcst as cst

Make = Callable[..., Any]
"""A node of the values of its named fields, in their order."""
_Put = Callable[[object, object], None]
_Rest = Sequence[tuple[_Put, object]]
"""What sets the fields that hold their default, and that."""


def maker(kind: type[cst.CSTNode], *names: str) -> Make:
    """What makes nodes of a class.

    Args:
        kind: the class.
        names: its fields that are given; all others hold their default, which is one object for all nodes.
    """
    given = tuple(_setter(kind, name) for name in names)
    rest = tuple(
        (_setter(kind, item.name), item.default if item.default_factory is MISSING else item.default_factory())
        for item in fields(kind)
        if item.name not in names
    )
    match given:
        case (put,):
            return _of_one(kind, put, rest)
        case (put, put_other):
            return _of_two(kind, put, put_other, rest)
    return _of_several(kind, given, rest)


def _of_several(kind: type[cst.CSTNode], given: Sequence[_Put], rest: _Rest) -> Make:
    new = object.__new__

    def make(*values: object) -> cst.CSTNode:
        node = new(kind)
        for put, value in zip(given, values, strict=True):
            put(node, value)
        for put, value in rest:
            put(node, value)
        return node

    return make


# most nodes are of one field or two, which takes half the time without a loop


def _of_one(kind: type[cst.CSTNode], put_value: _Put, rest: _Rest) -> Make:
    new = object.__new__

    def make(value: object) -> cst.CSTNode:
        node = new(kind)
        put_value(node, value)
        for put, default in rest:
            put(node, default)
        return node

    return make


def _of_two(kind: type[cst.CSTNode], put_value: _Put, put_other: _Put, rest: _Rest) -> Make:
    new = object.__new__

    def make(value: object, other: object) -> cst.CSTNode:
        node = new(kind)
        put_value(node, value)
        put_other(node, other)
        for put, default in rest:
            put(node, default)
        return node

    return make


def _setter(kind: type[cst.CSTNode], name: str) -> _Put:
    """What sets a field of a node that is frozen to all others."""
    slot: object = getattr(kind, name, None)
    setting: _Put | None = getattr(slot, "__set__", None)
    return partial(_put, name) if setting is None else setting


def _put(name: str, node: object, value: object) -> None:
    object.__setattr__(node, name, value)


alias = maker(cst.ImportAlias, "name", "asname")
annotation = maker(cst.Annotation, "annotation")
argument = maker(cst.Arg, "value", "keyword", "star")
as_name = maker(cst.AsName, "name")
assert_ = maker(cst.Assert, "test", "msg")
assign = maker(cst.Assign, "targets", "value")
assign_annotated = maker(cst.AnnAssign, "target", "annotation", "value")
assign_augmented = maker(cst.AugAssign, "target", "operator", "value")
attribute = maker(cst.Attribute, "value", "attr")
await_ = maker(cst.Await, "expression")
binary = maker(cst.BinaryOperation, "left", "operator", "right")
block = maker(cst.IndentedBlock, "body")
boolean = maker(cst.BooleanOperation, "left", "operator", "right")
call = maker(cst.Call, "func", "args")
class_ = maker(cst.ClassDef, "name", "body", "bases", "keywords", "decorators")
comparison = maker(cst.Comparison, "left", "comparisons")
comparison_target = maker(cst.ComparisonTarget, "operator", "comparator")
comp_for = maker(cst.CompFor, "target", "iter", "ifs", "inner_for_in", "asynchronous")
comp_if = maker(cst.CompIf, "test")
concatenated = maker(cst.ConcatenatedString, "left", "right")
decorator = maker(cst.Decorator, "decorator")
delete = maker(cst.Del, "target")
dict_ = maker(cst.Dict, "elements")
dict_comp = maker(cst.DictComp, "key", "value", "for_in")
dict_element = maker(cst.DictElement, "key", "value")
element = maker(cst.Element, "value")
ellipsis = maker(cst.Ellipsis)
else_ = maker(cst.Else, "body")
except_ = maker(cst.ExceptHandler, "body", "type", "name")
expr = maker(cst.Expr, "value")
finally_ = maker(cst.Finally, "body")
float_ = maker(cst.Float, "value")
for_ = maker(cst.For, "target", "iter", "body", "orelse", "asynchronous")
formatted = maker(cst.FormattedString, "parts", "start", "end")
formatted_text = maker(cst.FormattedStringText, "value")
formatted_value = maker(cst.FormattedStringExpression, "expression", "conversion", "format_spec")
from_ = maker(cst.From, "item")
function = maker(cst.FunctionDef, "name", "params", "body", "decorators", "returns", "asynchronous")
generator = maker(cst.GeneratorExp, "elt", "for_in")
global_ = maker(cst.Global, "names")
if_ = maker(cst.If, "test", "body", "orelse")
if_else = maker(cst.IfExp, "test", "body", "orelse")
imaginary = maker(cst.Imaginary, "value")
import_ = maker(cst.Import, "names")
import_from = maker(cst.ImportFrom, "module", "names", "relative")
index = maker(cst.Index, "value", "star")
integer = maker(cst.Integer, "value")
lambda_ = maker(cst.Lambda, "params", "body")
line = maker(cst.SimpleStatementLine, "body")
list_ = maker(cst.List, "elements")
list_comp = maker(cst.ListComp, "elt", "for_in")
module = maker(cst.Module, "body")
name = maker(cst.Name, "value")
name_item = maker(cst.NameItem, "name")
named = maker(cst.NamedExpr, "target", "value")
nonlocal_ = maker(cst.Nonlocal, "names")
parameter = maker(cst.Param, "name", "annotation", "default", "star")
parameters = maker(cst.Parameters, "params", "star_arg", "kwonly_params", "star_kwarg", "posonly_params", "posonly_ind")
raise_ = maker(cst.Raise, "exc", "cause")
return_ = maker(cst.Return, "value")
set_ = maker(cst.Set, "elements")
set_comp = maker(cst.SetComp, "elt", "for_in")
slice_ = maker(cst.Slice, "lower", "upper", "step")
starred = maker(cst.StarredElement, "value")
starred_dict = maker(cst.StarredDictElement, "value")
string = maker(cst.SimpleString, "value")
subscript = maker(cst.Subscript, "value", "slice")
subscript_element = maker(cst.SubscriptElement, "slice")
suite = maker(cst.SimpleStatementSuite, "body")
target = maker(cst.AssignTarget, "target")
try_ = maker(cst.Try, "body", "handlers", "orelse", "finalbody")
tuple_ = maker(cst.Tuple, "elements")
unary = maker(cst.UnaryOperation, "operator", "expression")
while_ = maker(cst.While, "test", "body", "orelse")
with_ = maker(cst.With, "items", "body", "asynchronous")
with_item = maker(cst.WithItem, "item", "asname")
yield_ = maker(cst.Yield, "value")

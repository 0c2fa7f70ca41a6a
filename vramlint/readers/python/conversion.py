"""LibCST's expressions, made of CPython's.

LibCST's own parser makes a node of every blank. CPython's parser is some ten times as fast; of its tree the same nodes
are made here as far as the interpreter looks at them, without what only says how a text is laid out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import libcst as cst

from vramlint.patterns import lazy
from vramlint.readers.python import nodes as make
from vramlint.readers.python.fstrings import formatted
from vramlint.readers.python.gaps import (
    Unsupported,
    behind_blank,
    behind_closing,
    count_closing,
    count_opening,
)
from vramlint.readers.python.operator_nodes import operator_of
from vramlint.readers.python.placed import Placed
from vramlint.readers.python.positions import Range, positions

_ONE_STRING = lazy(
    r"[rRbBuU]{0,2}"
    r"""(?:'''(?:[^\\']|\\.|'(?!''))*'''|\"{3}(?:[^\\"]|\\.|"(?!""))*\"{3}|'(?:[^\\'\n]|\\.)*'|"(?:[^\\"\n]|\\.)*")""",
    re.DOTALL,
)
"""A string that is one token, without values inside."""

ASYNC = cst.Asynchronous()
_DEFAULT = cst.MaybeSentinel.DEFAULT
_STAR = cst.ParamStar()
_SLASH = cst.ParamSlash()


class Expressions(Placed):
    """Makes expressions of one text."""

    def of(self, node: ast.expr) -> Any:  # noqa: ANN401
        """An expression.

        Raises:
            Unsupported: it is one that is not made here.
        """
        first, last, odd, starts = node.lineno, node.end_lineno or node.lineno, self.odd, self.starts
        column, final = node.col_offset, node.end_col_offset or 0
        start = self.offset(first, column) if first in odd else starts[first - 1] + column
        end = self.offset(last, final) if last in odd else starts[last - 1] + final
        kind = type(node)
        placed = _PLACED.get(kind)
        if placed is not None:
            made = placed(self, node, start, end)
        else:
            making = _MAKERS.get(kind)
            if making is None:
                raise Unsupported(kind.__name__)
            made = making(self, node)
            if kind is ast.Tuple or kind is ast.GeneratorExp:
                start, end = self._bounds(node, start, end)
        self.ranges[id(made)] = start, end
        return made

    def maybe(self, node: ast.expr | None) -> Any:  # noqa: ANN401
        """An expression that may be missing."""
        return None if node is None else self.of(node)

    def _bounds(self, node: ast.expr, start: int, end: int) -> Range:
        """Where an expression stands by LibCST's account: parentheses belong to no tuple and to no generator."""
        if isinstance(node, ast.GeneratorExp):
            last = node.generators[-1]
            final = last.ifs[-1] if last.ifs else last.iter
            return behind_blank(self.text, start + 1), behind_closing(self.text, self.end(final), end - 1)
        if isinstance(node, ast.Tuple) and self.is_enclosed(node):
            if not node.elts:
                return start + 1, end - 1
            return behind_blank(self.text, start + 1), self._end_of_elements(node, end - 1)
        return start, end

    def is_enclosed(self, node: ast.Tuple) -> bool:
        """Whether a tuple has parentheses of its own, and not its first element alone."""
        if not node.elts:
            return True
        first = node.elts[0]
        start = self.start(first)
        return count_opening(self.text, self.start(node), start) > count_closing(self.text, self.end(first))

    def _end_of_elements(self, node: ast.Tuple, most: int) -> int:
        """The end of a tuple's elements; a comma behind the last one belongs to it."""
        end = behind_closing(self.text, self.end(node.elts[-1]), most)
        comma = behind_blank(self.text, end)
        return comma + 1 if self.text.startswith(",", comma) and comma < most else end

    # by class

    def _name(self, node: ast.Name, start: int, end: int) -> Any:  # noqa: ANN401
        if self.text[start:end] != node.id:
            raise Unsupported(node.id)  # written with letters of which Python makes others
        return make.name(node.id)

    def _constant(self, node: ast.Constant, start: int, end: int) -> Any:  # noqa: ANN401
        value, written = node.value, self.text[start:end]
        match value:
            case None | bool():
                return make.name(written)
            case int():
                return make.integer(written)
            case float():
                return make.float_(written)
            case complex():
                return make.imaginary(written)
            case str() | bytes():
                return make.string(written) if _is_one_string(written) else self._strings(start, end)
        return make.ellipsis()

    def _strings(self, start: int, end: int) -> Any:  # noqa: ANN401
        """Strings side by side, without values inside: the first, and the rest as one."""
        first = _ONE_STRING.match(self.text, start, end)
        if first is None:
            raise Unsupported("string")
        made = make.string(first[0])
        if first.end() == end:
            return made
        rest = behind_blank(self.text, first.end())
        following = self._strings(rest, end)
        return make.concatenated(self.at(made, start, first.end()), self.at(following, rest, end))

    def _joined(self, node: ast.JoinedStr, start: int, end: int) -> Any:  # noqa: ANN401
        del node
        made = formatted(self, start, end)
        return self._read(start, end) if made is None else made

    def _read(self, start: int, end: int) -> Any:  # noqa: ANN401
        """Strings with values inside, or of several parts, as LibCST reads them."""
        try:
            made = cst.parse_expression(f"({self.text[start:end]})")
        except cst.ParserSyntaxError as error:
            raise Unsupported("string") from error
        ends = self.text.find("\n", start, end)
        newline = "\r\n" if ends > start and self.text[ends - 1] == "\r" else "\n"  # as LibCST tells it: by the first
        found = positions(made, start - 1, newline=newline)
        self.ranges |= found.ranges
        return made

    def _attribute(self, node: ast.Attribute, start: int, end: int) -> Any:  # noqa: ANN401
        del start
        return make.attribute(self.of(node.value), self.word(node.attr, end - len(node.attr)))

    def _call(self, node: ast.Call) -> Any:  # noqa: ANN401
        return make.call(self.of(node.func), self.arguments(node.args, node.keywords))

    def arguments(self, positional: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> tuple[Any, ...]:
        """The arguments of a call in the order in which they are written."""
        found = [(item.lineno, item.col_offset, self._positional(item)) for item in positional]
        if not keywords:
            return tuple([made for _, _, made in found])
        found += [(item.lineno, item.col_offset, self._keyword(item)) for item in keywords]
        return tuple([made for _, _, made in sorted(found, key=_by_place)])

    def _positional(self, node: ast.expr) -> Any:  # noqa: ANN401
        if isinstance(node, ast.Starred):
            return make.argument(self.of(node.value), None, "*")
        return make.argument(self.of(node), None, "")

    def _keyword(self, node: ast.keyword) -> Any:  # noqa: ANN401
        if node.arg is None:
            return make.argument(self.of(node.value), None, "**")
        return make.argument(self.of(node.value), self.word(node.arg, self.start(node)), "")

    def _subscript(self, node: ast.Subscript) -> Any:  # noqa: ANN401
        inner = node.slice
        several = isinstance(inner, ast.Tuple) and inner.elts and not self.is_enclosed(inner)
        parts = inner.elts if several and isinstance(inner, ast.Tuple) else (inner,)
        return make.subscript(self.of(node.value), tuple([make.subscript_element(self._part(part)) for part in parts]))

    def _part(self, node: ast.expr) -> Any:  # noqa: ANN401
        if isinstance(node, ast.Slice):
            return make.slice_(self.maybe(node.lower), self.maybe(node.upper), self.maybe(node.step))
        if isinstance(node, ast.Starred):
            return make.index(self.of(node.value), "*")
        return make.index(self.of(node), None)

    def _elements(self, nodes: Sequence[ast.expr]) -> tuple[Any, ...]:
        return tuple(
            [
                self.at(make.starred(self.of(node.value)), self.start(node), self.end(node))
                if isinstance(node, ast.Starred)
                else make.element(self.of(node))
                for node in nodes
            ]
        )

    def _tuple(self, node: ast.Tuple) -> Any:  # noqa: ANN401
        return make.tuple_(self._elements(node.elts))

    def _list(self, node: ast.List) -> Any:  # noqa: ANN401
        return make.list_(self._elements(node.elts))

    def _set(self, node: ast.Set) -> Any:  # noqa: ANN401
        return make.set_(self._elements(node.elts))

    def _dict(self, node: ast.Dict) -> Any:  # noqa: ANN401
        return make.dict_(
            tuple(
                [
                    make.starred_dict(self.of(value))
                    if key is None
                    else make.dict_element(self.of(key), self.of(value))
                    for key, value in zip(node.keys, node.values, strict=True)
                ]
            )
        )

    def _binary(self, node: ast.BinOp) -> Any:  # noqa: ANN401
        return make.binary(self.of(node.left), operator_of(node.op), self.of(node.right))

    def _boolean(self, node: ast.BoolOp, start: int, end: int) -> Any:  # noqa: ANN401
        """`a and b and c`, two by two from the left."""
        operator = operator_of(node.op)
        made = self.of(node.values[0])
        for value in node.values[1:]:
            made = make.boolean(made, operator, self.of(value))
            if value is not node.values[-1]:
                self.at(made, start, behind_closing(self.text, self.end(value), end))
        return made

    def _unary(self, node: ast.UnaryOp) -> Any:  # noqa: ANN401
        return make.unary(operator_of(node.op), self.of(node.operand))

    def _comparison(self, node: ast.Compare) -> Any:  # noqa: ANN401
        pairs = zip(node.ops, node.comparators, strict=True)
        targets = [make.comparison_target(operator_of(operator), self.of(value)) for operator, value in pairs]
        return make.comparison(self.of(node.left), tuple(targets))

    def _if_else(self, node: ast.IfExp) -> Any:  # noqa: ANN401
        return make.if_else(self.of(node.test), self.of(node.body), self.of(node.orelse))

    def _named(self, node: ast.NamedExpr) -> Any:  # noqa: ANN401
        return make.named(self.of(node.target), self.of(node.value))

    def _await(self, node: ast.Await) -> Any:  # noqa: ANN401
        return make.await_(self.of(node.value))

    def _yield(self, node: ast.Yield) -> Any:  # noqa: ANN401
        return make.yield_(self.maybe(node.value))

    def _yield_from(self, node: ast.YieldFrom) -> Any:  # noqa: ANN401
        return make.yield_(make.from_(self.of(node.value)))

    def _lambda(self, node: ast.Lambda) -> Any:  # noqa: ANN401
        return make.lambda_(self.parameters(node.args), self.of(node.body))

    def _list_comp(self, node: ast.ListComp) -> Any:  # noqa: ANN401
        return make.list_comp(self.of(node.elt), self._turns(node.generators))

    def _set_comp(self, node: ast.SetComp) -> Any:  # noqa: ANN401
        return make.set_comp(self.of(node.elt), self._turns(node.generators))

    def _generator(self, node: ast.GeneratorExp) -> Any:  # noqa: ANN401
        return make.generator(self.of(node.elt), self._turns(node.generators))

    def _dict_comp(self, node: ast.DictComp) -> Any:  # noqa: ANN401
        return make.dict_comp(self.of(node.key), self.of(node.value), self._turns(node.generators))

    def _turns(self, generators: Sequence[ast.comprehension]) -> Any:  # noqa: ANN401
        made = None
        for item in reversed(generators):
            ifs = tuple([make.comp_if(self.of(test)) for test in item.ifs])
            asynchronous = ASYNC if item.is_async else None
            made = make.comp_for(self.of(item.target), self.of(item.iter), ifs, made, asynchronous)
        return made

    def parameters(self, node: ast.arguments) -> Any:  # noqa: ANN401
        """The parameters of a function."""
        plain = [*node.posonlyargs, *node.args]
        defaults = [None] * (len(plain) - len(node.defaults)) + [*node.defaults]
        made = [self._parameter(item, default, "") for item, default in zip(plain, defaults, strict=True)]
        keyword_only = zip(node.kwonlyargs, node.kw_defaults, strict=True)
        star = _DEFAULT if not node.kwonlyargs else _STAR
        return make.parameters(
            tuple(made[len(node.posonlyargs) :]),
            self._parameter(node.vararg, None, "*") if node.vararg is not None else star,
            tuple([self._parameter(item, default, "") for item, default in keyword_only]),
            self._parameter(node.kwarg, None, "**") if node.kwarg is not None else None,
            tuple(made[: len(node.posonlyargs)]),
            _SLASH if node.posonlyargs else _DEFAULT,
        )

    def _parameter(self, node: ast.arg, default: ast.expr | None, star: str) -> Any:  # noqa: ANN401
        annotation = None if node.annotation is None else make.annotation(self.of(node.annotation))
        return make.parameter(self.word(node.arg, self.start(node)), annotation, self.maybe(default), star)


def _is_one_string(written: str) -> bool:
    """Whether the text of a string is one token; most are by their first and last quotes alone."""
    quote = written[:3] if written.startswith(('"""', "'''")) else written[:1]
    if quote[0] in "\"'" and "\\" not in written:
        return written.find(quote, len(quote)) == len(written) - len(quote)
    return _ONE_STRING.fullmatch(written) is not None


def _by_place(item: tuple[int, int, object]) -> tuple[int, int]:
    return item[:2]


_PLACED: Mapping[type[ast.AST], Callable[[Expressions, Any, int, int], Any]] = MappingProxyType(
    {
        ast.Name: Expressions._name,
        ast.Constant: Expressions._constant,
        ast.JoinedStr: Expressions._joined,
        ast.Attribute: Expressions._attribute,
        ast.BoolOp: Expressions._boolean,
    }
)
"""What is made of an expression and the text between its bounds."""
_MAKERS: Mapping[type[ast.AST], Callable[[Expressions, Any], Any]] = MappingProxyType(
    {
        ast.Call: Expressions._call,
        ast.Subscript: Expressions._subscript,
        ast.Tuple: Expressions._tuple,
        ast.List: Expressions._list,
        ast.Set: Expressions._set,
        ast.Dict: Expressions._dict,
        ast.BinOp: Expressions._binary,
        ast.UnaryOp: Expressions._unary,
        ast.Compare: Expressions._comparison,
        ast.IfExp: Expressions._if_else,
        ast.NamedExpr: Expressions._named,
        ast.Await: Expressions._await,
        ast.Yield: Expressions._yield,
        ast.YieldFrom: Expressions._yield_from,
        ast.Lambda: Expressions._lambda,
        ast.ListComp: Expressions._list_comp,
        ast.SetComp: Expressions._set_comp,
        ast.GeneratorExp: Expressions._generator,
        ast.DictComp: Expressions._dict_comp,
    }
)

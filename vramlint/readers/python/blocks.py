"""LibCST's statements, made of CPython's; see `conversion`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import libcst as cst

from vramlint.patterns import lazy
from vramlint.readers.python import nodes as make
from vramlint.readers.python.conversion import ASYNC, Expressions
from vramlint.readers.python.gaps import Unsupported, after_header, behind_blank, behind_comments, token
from vramlint.readers.python.operator_nodes import augmented
from vramlint.readers.python.positions import Range

_NAMED = lazy(r"(?:async[ \t]+)?(?:def|class)[ \t]+")
_MODULE = lazy(r"from[ \t]*(?:[.][. \t]*)?")
_AS = lazy(r"as[ \t]+")


class Converted(NamedTuple):
    """A tree of LibCST's nodes, and where they stand."""

    module: cst.Module
    ranges: dict[int, Range]
    functions: tuple[cst.FunctionDef, ...]
    """Its functions and methods, and those inside of them, in the order of their ends."""


def converted(text: str, tree: ast.Module, starts: Sequence[int] = ()) -> Converted | None:
    """The tree of a text as LibCST has it, without what says how it is laid out; None where it is not made here.

    Args:
        text: the text.
        tree: what CPython makes of it.
        starts: where its lines start, if that is known.
    """
    made = Statements(text, starts)
    try:
        module = make.module(made.all(tree.body))
    except (Unsupported, RecursionError, IndexError, UnicodeError):
        return None
    return Converted(module, made.ranges, tuple(made.functions))


def grouped(nodes: Sequence[ast.stmt]) -> Iterator[Sequence[ast.stmt]]:
    """Statements one below the other, those that share a line together."""
    index = 0
    while index < len(nodes):
        last = index + 1
        if not is_compound(nodes[index]):
            while last < len(nodes) and nodes[last].lineno == nodes[last - 1].end_lineno:
                last += 1
        yield nodes[index:last]
        index = last


def is_compound(node: ast.stmt) -> bool:
    """Whether a statement has others inside."""
    return type(node) in _COMPOUND


def first_line(node: ast.stmt) -> int:
    """The line in which a statement begins, with its decorators."""
    decorators: Sequence[ast.expr] = getattr(node, "decorator_list", ())
    return min([node.lineno, *(item.lineno for item in decorators)]) if decorators else node.lineno


class Statements(Expressions):
    """Makes the statements of one text."""

    def __init__(self, text: str, starts: Sequence[int] = ()) -> None:
        """The text, and where its lines start, if that is known."""
        super().__init__(text, starts)
        self.functions: list[cst.FunctionDef] = []
        self.most = len(text)
        """Where the comments end that may belong to a block."""
        self.behind = 0
        """Where the last block ends that was made, with the comments behind its statements."""

    def all(self, nodes: Sequence[ast.stmt]) -> tuple[Any, ...]:
        """Statements one below the other."""
        return tuple([self.group(group) for group in grouped(nodes)])

    def group(self, nodes: Sequence[ast.stmt]) -> Any:  # noqa: ANN401 (nodes are made with fields of any kind)
        """Statements that share a line, or one that has others inside."""
        first = nodes[0]
        compound = _COMPOUND.get(type(first))
        if compound is not None:
            return compound(self, first)
        line = make.line(tuple([self._simple(each) for each in nodes]))
        return self.at(line, self.start(first), self.end(nodes[-1]))

    def _block(self, nodes: Sequence[ast.stmt]) -> Any:  # noqa: ANN401 (nodes are made with fields of any kind)
        """What stands inside another statement, on lines of its own or behind the colon."""
        begin = self.starts[first_line(nodes[0]) - 1]
        indent = self.indent(nodes[0])
        if indent is None:
            made = make.suite(tuple([self._simple(each) for each in nodes]))
            self.behind = self.end_of_line(nodes[-1])
            return self.at(made, self.start(nodes[0]), self.end(nodes[-1]))
        made = make.block(self.inside(nodes))
        end = self.behind if is_compound(nodes[-1]) else self.end_of_line(nodes[-1])
        self.behind = behind_comments(self.text, end, indent, self.most)
        return self.at(made, after_header(self.text, begin), end)

    def inside(self, nodes: Sequence[ast.stmt]) -> Sequence[Any]:
        """The statements of a block; `behind` is where the last of them ends, if that has blocks itself."""
        return self.all(nodes)

    def indent(self, node: ast.stmt) -> str | None:
        """What stands before a block's first statement in its line; None where that is the block's header."""
        decorators: Sequence[ast.expr] = getattr(node, "decorator_list", ())
        first = min([self.start(node), *map(self.start, decorators)])
        before = self.text[self.starts[first_line(node) - 1] : first]
        return None if before.strip(" \t\f@") else before.rstrip("@")

    def elif_of(self, node: ast.If) -> ast.If | None:
        """The `elif` that follows, if any."""
        other = node.orelse[0] if len(node.orelse) == 1 else None
        return other if isinstance(other, ast.If) and self.text.startswith("elif", self.start(other)) else None

    def end_of_line(self, node: ast.stmt) -> int:
        """Where the line after a statement begins."""
        line = node.end_lineno or node.lineno
        return self.starts[line] if line < len(self.starts) else len(self.text)

    def _else(self, nodes: Sequence[ast.stmt], before: Sequence[ast.stmt], word: str = "else") -> Any:  # noqa: ANN401
        """The block behind `else` or `finally`, None where there is none."""
        if not nodes:
            return None
        start = token(self.text, self.end(before[-1]), word)
        made = (make.else_ if word == "else" else make.finally_)(self._block(nodes))
        return self.at(made, start, self.behind)

    def _compound(self, made: Any, node: ast.stmt) -> Any:  # noqa: ANN401
        return self.at(made, self.start(node), self.behind)

    def _if(self, node: ast.If) -> Any:  # noqa: ANN401
        body, other = self._block(node.body), self.elif_of(node)
        rest = self._else(node.orelse, node.body) if other is None else self._if(other)
        return self._compound(make.if_(self.of(node.test), body, rest), node)

    def _for(self, node: ast.For | ast.AsyncFor) -> Any:  # noqa: ANN401
        asynchronous = ASYNC if isinstance(node, ast.AsyncFor) else None
        body, other = self._block(node.body), self._else(node.orelse, node.body)
        return self._compound(make.for_(self.of(node.target), self.of(node.iter), body, other, asynchronous), node)

    def _while(self, node: ast.While) -> Any:  # noqa: ANN401
        body, other = self._block(node.body), self._else(node.orelse, node.body)
        return self._compound(make.while_(self.of(node.test), body, other), node)

    def _with(self, node: ast.With | ast.AsyncWith) -> Any:  # noqa: ANN401
        items = tuple([self._item(item) for item in node.items])
        asynchronous = ASYNC if isinstance(node, ast.AsyncWith) else None
        return self._compound(make.with_(items, self._block(node.body), asynchronous), node)

    def _item(self, node: ast.withitem) -> Any:  # noqa: ANN401
        name = None if node.optional_vars is None else make.as_name(self.of(node.optional_vars))
        return make.with_item(self.of(node.context_expr), name)

    def _try(self, node: ast.Try) -> Any:  # noqa: ANN401
        body, handlers = self._block(node.body), tuple([self._handler(handler) for handler in node.handlers])
        before = node.handlers[-1].body if node.handlers else node.body
        other = self._else(node.orelse, before)
        final = self._else(node.finalbody, node.orelse or before, "finally")
        return self._compound(make.try_(body, handlers, other, final), node)

    def _handler(self, node: ast.ExceptHandler) -> Any:  # noqa: ANN401
        name = None
        if node.name is not None and node.type is not None:
            place = behind_blank(self.text, self.end(node.type))
            while self.text.startswith(")", place):
                place = behind_blank(self.text, place + 1)
            found = _AS.match(self.text, place)
            if found is None:
                raise Unsupported("as")
            name = make.as_name(self.word(node.name, found.end()))
        made = make.except_(self._block(node.body), self.maybe(node.type), name)
        return self.at(made, self.start(node), self.behind)

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Any:  # noqa: ANN401
        """A function or method."""
        if getattr(node, "type_params", ()):
            raise Unsupported("type parameters")
        asynchronous = ASYNC if isinstance(node, ast.AsyncFunctionDef) else None
        returns = None if node.returns is None else make.annotation(self.of(node.returns))
        made = make.function(
            self._own_name(node),
            self.parameters(node.args),
            self._block(node.body),
            self._decorators(node),
            returns,
            asynchronous,
        )
        self.functions.append(made)
        return self._compound(made, node)

    def _class(self, node: ast.ClassDef) -> Any:  # noqa: ANN401
        if getattr(node, "type_params", ()):
            raise Unsupported("type parameters")
        bases, keywords = self.arguments(node.bases, ()), self.arguments((), node.keywords)
        made = make.class_(self._own_name(node), self._block(node.body), bases, keywords, self._decorators(node))
        return self._compound(made, node)

    def _own_name(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Any:  # noqa: ANN401
        found = _NAMED.match(self.text, self.start(node))
        if found is None:
            raise Unsupported(node.name)
        return self.word(node.name, found.end())

    def _decorators(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> tuple[Any, ...]:
        return tuple([make.decorator(self.of(item)) for item in node.decorator_list])

    # on one line

    def _simple(self, node: ast.stmt) -> Any:  # noqa: ANN401
        making = _SIMPLE.get(type(node))
        if making is None:
            raise Unsupported(type(node).__name__)
        return self.at(making(self, node), self.start(node), self.end(node))

    def _expression(self, node: ast.Expr) -> Any:  # noqa: ANN401
        return make.expr(self.of(node.value))

    def _assign(self, node: ast.Assign) -> Any:  # noqa: ANN401
        return make.assign(tuple([make.target(self.of(item)) for item in node.targets]), self.of(node.value))

    def _assign_annotated(self, node: ast.AnnAssign) -> Any:  # noqa: ANN401
        annotation = make.annotation(self.of(node.annotation))
        return make.assign_annotated(self.of(node.target), annotation, self.maybe(node.value))

    def _assign_augmented(self, node: ast.AugAssign) -> Any:  # noqa: ANN401
        return make.assign_augmented(self.of(node.target), augmented(node.op), self.of(node.value))

    def _return(self, node: ast.Return) -> Any:  # noqa: ANN401
        return make.return_(self.maybe(node.value))

    def _raise(self, node: ast.Raise) -> Any:  # noqa: ANN401
        cause = None if node.cause is None else make.from_(self.of(node.cause))
        return make.raise_(self.maybe(node.exc), cause)

    def _assert(self, node: ast.Assert) -> Any:  # noqa: ANN401
        return make.assert_(self.of(node.test), self.maybe(node.msg))

    def _delete(self, node: ast.Delete) -> Any:  # noqa: ANN401
        first = node.targets[0]
        if len(node.targets) == 1:
            return make.delete(self.of(first))
        several = make.tuple_(tuple([make.element(self.of(item)) for item in node.targets]))
        return make.delete(self.at(several, self.start(first), self.end(node.targets[-1])))

    def _global(self, node: ast.Global) -> Any:  # noqa: ANN401
        return make.global_(tuple([make.name_item(make.name(item)) for item in node.names]))

    def _nonlocal(self, node: ast.Nonlocal) -> Any:  # noqa: ANN401
        return make.nonlocal_(tuple([make.name_item(make.name(item)) for item in node.names]))

    def _import(self, node: ast.Import) -> Any:  # noqa: ANN401
        return make.import_(tuple([self._alias(item) for item in node.names]))

    def _import_from(self, node: ast.ImportFrom) -> Any:  # noqa: ANN401
        module = None
        if node.module is not None:
            found = _MODULE.match(self.text, self.start(node))
            module = self.dotted(node.module, found.end() if found else 0)
        starred = node.names[0].name == "*"
        names = cst.ImportStar() if starred else tuple([self._alias(item) for item in node.names])
        return make.import_from(module, names, (cst.Dot(),) * node.level)

    def _alias(self, node: ast.alias) -> Any:  # noqa: ANN401
        name = self.dotted(node.name, self.start(node))
        if node.asname is None:
            return make.alias(name, None)
        return make.alias(name, make.as_name(self.word(node.asname, self.end(node) - len(node.asname))))


_Making = Callable[[Statements, Any], Any]
_COMPOUND: Mapping[type[ast.AST], _Making] = MappingProxyType(
    {
        ast.If: Statements._if,
        ast.For: Statements._for,
        ast.AsyncFor: Statements._for,
        ast.While: Statements._while,
        ast.With: Statements._with,
        ast.AsyncWith: Statements._with,
        ast.Try: Statements._try,
        ast.FunctionDef: lambda made, node: made.function(node),
        ast.AsyncFunctionDef: lambda made, node: made.function(node),
        ast.ClassDef: Statements._class,
    }
)
_SIMPLE: Mapping[type[ast.AST], _Making] = MappingProxyType(
    {
        ast.Expr: Statements._expression,
        ast.Assign: Statements._assign,
        ast.AnnAssign: Statements._assign_annotated,
        ast.AugAssign: Statements._assign_augmented,
        ast.Return: Statements._return,
        ast.Raise: Statements._raise,
        ast.Assert: Statements._assert,
        ast.Delete: Statements._delete,
        ast.Global: Statements._global,
        ast.Nonlocal: Statements._nonlocal,
        ast.Import: Statements._import,
        ast.ImportFrom: Statements._import_from,
        ast.Pass: lambda _, __: cst.Pass(),
        ast.Break: lambda _, __: cst.Break(),
        ast.Continue: lambda _, __: cst.Continue(),
    }
)

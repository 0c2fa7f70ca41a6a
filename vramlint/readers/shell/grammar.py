"""From the tree of tree-sitter-bash to statements.

The grammar says where compound statements, lists and pipelines begin and end. Simple commands are cut by `scan`: there
the tree does not always agree with bash (assignments before a newline, words behind a redirection).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from vramlint.readers.shell import cutting, scan
from vramlint.readers.shell.syntax import (
    Arithmetic,
    Block,
    Case,
    Chain,
    Conditional,
    Counting,
    Definition,
    Each,
    Loop,
    Negation,
    Pipeline,
    Redirected,
    Statement,
    Subshell,
    Test,
    extent,
)

if TYPE_CHECKING:
    from tree_sitter import Node


class Error(Struct, frozen=True):
    """What bash would refuse: `text[start:end]`, and the message."""

    start: int
    end: int
    message: str
    certain: bool = False
    """Whether bash surely refuses it."""


def block_of(root: Node, text: str, start: int, end: int) -> Block:
    """The statements of a tree over `text[start:end]`; their offsets count from the start of `text`."""
    return Block(tuple(_Builder(text, start, end).statements(root.children)), start, end)


def errors_of(root: Node, text: str, start: int, end: int) -> list[Error]:
    """Where the grammar found something amiss."""
    return list(_Builder(text, start, end).errors(root)) if root.has_error else []


class _Builder:
    """Turns nodes into statements; offsets move by `shift`."""

    def __init__(self, text: str, shift: int, limit: int) -> None:
        self.text, self.shift, self.limit = text, shift, limit
        self.covered = 0
        """Up to where simple commands have been cut: the tree may start a statement inside of one."""

    def start(self, node: Node) -> int:
        return node.start_byte + self.shift

    def end(self, node: Node) -> int:
        return node.end_byte + self.shift

    def statements(self, nodes: Iterable[Node]) -> list[Statement]:
        found: list[Statement] = []
        for node in nodes:
            if node.is_named:
                statement = self.statement(node)
                if statement is not None:
                    found.append(statement)
        return found

    def statement(self, node: Node) -> Statement | None:
        kind = node.type
        if kind in _SIMPLE:
            return self.simple(self.start(node), self.end(node))
        build = _COMPOUND.get(kind)
        return build(self, node) if build else None

    def simple(self, start: int, end: int) -> Statement | None:
        """The commands between two offsets: one, unless the tree took several for one."""
        found: list[Statement] = []
        index = max(start, self.covered)
        end = min(end, len(self.text))  # a missing bracket ends behind the text
        while index < end:
            statement = self.single(index)
            last = extent(statement)[1]
            if last > index:
                found.append(statement)
            index = max(last, index + 1)
            while index < end and self.text[index] in " \t\n;&|)":
                index += 1
            if index < end and self.text[index] == "#":
                index = max(self.text.find("\n", index), index + 1)
        self.covered = max(self.covered, index if index < self.limit else self.limit)
        if len(found) == 1:
            return found[0]
        return Block(tuple(found), start, end) if found else None

    def single(self, index: int) -> Statement:
        if self.text.startswith("[[", index):
            close = self.text.find("]]", index)
            close = self.limit if close < 0 else close
            return Test(index, close + 2)
        if self.text.startswith("((", index):
            return Arithmetic(index, scan.parentheses(self.text, index))
        return cutting.simple(self.text, index, self.limit)

    def block(self, nodes: list[Node], start: int, end: int) -> Block:
        return Block(tuple(self.statements(nodes)), start, end)

    def group(self, node: Node) -> Statement:
        if node.children and node.children[0].type == "((":
            return Arithmetic(self.start(node), self.end(node))
        return self.block(node.children, self.start(node), self.end(node))

    def test(self, node: Node) -> Statement | None:
        if self.text.startswith("[[", self.start(node)):
            return Test(self.start(node), self.end(node))
        if self.text.startswith("((", self.start(node)):
            return Arithmetic(self.start(node), self.end(node))
        return self.simple(self.start(node), self.end(node))

    def subshell(self, node: Node) -> Statement:
        return Subshell(self.block(node.children, self.start(node), self.end(node)))

    def listed(self, node: Node) -> Statement | None:
        left = self.statement(node.children[0])
        operator = next((child.type for child in node.children if child.type in ("&&", "||")), "&&")
        right = next(iter(self.statements(node.children[1:])), None)
        return self.chain(left, operator, right)

    def chain(self, left: Statement | None, operator: str, right: Statement | None) -> Statement | None:
        if left is None or right is None:
            return left or right
        return Chain(left, operator, right, extent(left)[0], extent(right)[1])

    def pipeline(self, node: Node) -> Statement | None:
        return self.piped(self.statements(node.children))

    def piped(self, parts: list[Statement]) -> Statement | None:
        if len(parts) < 2:
            return parts[0] if parts else None
        return Pipeline(tuple(parts), extent(parts[0])[0], extent(parts[-1])[1])

    def negation(self, node: Node) -> Statement | None:
        body = next(iter(self.statements(node.children)), None)
        return Negation(body, self.start(node), self.end(node)) if body is not None else None

    def conditional(self, node: Node) -> Statement:
        branches: list[tuple[Block | None, Block]] = []
        tests, body, inside = [], [], False
        for child in node.children:
            if child.type == "then":
                inside = True
            elif child.type in ("elif_clause", "else_clause"):
                continue
            elif inside:
                body.append(child)
            elif child.type != "if":
                tests.append(child)
        branches.append((self.covering(tests), self.covering(body)))
        for child in node.children:
            if child.type == "elif_clause":
                cut = next((i for i, item in enumerate(child.children) if item.type == "then"), len(child.children))
                branches.append((self.covering(child.children[1:cut]), self.covering(child.children[cut + 1 :])))
            elif child.type == "else_clause":
                branches.append((None, self.covering(child.children[1:])))
        return Conditional(tuple(branches), self.start(node), self.end(node))

    def covering(self, nodes: list[Node]) -> Block:
        """The block of some nodes; it spans their statements only, not the `;` between."""
        statements = self.statements(nodes)
        if not statements:
            return Block((), self.shift, self.shift)
        return Block(tuple(statements), extent(statements[0])[0], max(extent(item)[1] for item in statements))

    def loop(self, node: Node) -> Statement:
        tests = [child for child in node.children[1:] if child.type != "do_group"]
        return Loop(
            self.covering(tests), self.body(node), node.children[0].type == "until", self.start(node), self.end(node)
        )

    def body(self, node: Node) -> Block:
        """What is repeated: `do … done`, or `{ … }`; a test in `((…))` is a compound statement too."""
        groups = [child for child in node.children if child.type in ("do_group", "compound_statement")]
        for child in groups[-1:]:
            return self.block(child.children, self.start(child), self.end(child))
        return Block((), self.end(node), self.end(node))

    def each(self, node: Node) -> Statement:
        name = next((child for child in node.children if child.type == "variable_name"), None)
        opening = next((child for child in node.children if child.type == "in"), None)
        words: tuple[tuple[int, int], ...] | None = None
        if opening is not None:
            start = self.end(opening)
            words = cutting.simple(self.text, start, self.limit).words
            self.covered = max(self.covered, start)
        title = self.text[self.start(name) : self.end(name)] if name else "_"
        return Each(title, words, self.body(node), self.start(node), self.end(node))

    def counting(self, node: Node) -> Statement:
        index = self.text.find("((", self.start(node)) + 2
        inside = self.text[index : max(scan.parentheses(self.text, index - 2) - 2, index)]
        parts: list[tuple[int, int]] = []
        for part in inside.split(";"):
            parts.append((index, index + len(part)))
            index += len(part) + 1
        return Counting(tuple(parts), self.body(node), self.start(node), self.end(node))

    def case(self, node: Node) -> Statement:
        start = scan.blanks(self.text, self.start(node) + len("case"))
        items = tuple(self.item(child) for child in node.children if child.type == "case_item")
        return Case((start, scan.word(self.text, start, self.limit)), items, self.start(node), self.end(node))

    def item(self, node: Node) -> tuple[tuple[tuple[int, int], ...], Block, str]:
        cut = next((index for index, child in enumerate(node.children) if child.type == ")"), len(node.children))
        ending = node.children[-1].type if node.children else ";;"
        start = self.start(node) + self.text.startswith("(", self.start(node))
        end = self.start(node.children[cut]) if cut < len(node.children) else self.end(node)
        patterns = tuple(span for span in cutting.tokens(self.text, start, end) if self.text[span[0]] not in "|(")
        return patterns, self.covering(node.children[cut + 1 :]), ending

    def definition(self, node: Node) -> Statement | None:
        name = next((child for child in node.children if child.type == "word"), None)
        if name is None:
            return None
        body = self.statements(child for child in node.children if child is not name and child.type in _COMPOUND)
        if not body:
            return None
        return Definition(self.text[self.start(name) : self.end(name)], body[0], self.start(node), self.end(node))

    def redirected(self, node: Node) -> Statement | None:
        first = node.children[0]
        if first.type in _SIMPLE or first.type not in _COMPOUND:
            body = self.simple(self.start(node), max(self.start(node) + 1, self.end(first)))
        else:
            inner = self.statement(first)
            rest = cutting.simple(self.text, self.end(first), self.limit)
            body = Redirected(inner, rest) if inner is not None else None
        for child in node.children:
            if child.type == "heredoc_redirect":
                body = self.behind(child, body)
        return body

    def behind(self, node: Node, body: Statement | None) -> Statement | None:
        """What the tree hangs into a here-document: the rest of its line, `| tee x` or `&& b`."""
        operator = ""
        for child in node.children:
            if child.type in ("&&", "||"):
                operator = child.type
            elif child.type == "pipeline":
                body = self.piped([*([body] if body is not None else []), *self.statements(child.children)])
            elif operator and child.is_named and (child.type in _SIMPLE or child.type in _COMPOUND):
                body = self.chain(body, operator, self.statement(child))
                operator = ""
        return body

    def error(self, node: Node) -> Statement | None:
        statements = self.statements(node.children)
        return Block(tuple(statements), self.start(node), self.end(node)) if statements else None

    def errors(self, node: Node) -> Iterable[Error]:
        if node.is_missing:
            yield Error(self.start(node), self.end(node), f"{node.type} is missing")
        elif node.is_error:
            start = self.start(node)
            line = self.text.find("\n", start)
            end = min(self.end(node), self.limit if line < 0 else line)
            shown = self.text[start:end].strip()
            message = f"unexpected {shown[:40]}" if shown else "unexpected end of line"
            yield Error(start, max(end, start), message)
        elif node.has_error:
            for child in node.children:
                yield from self.errors(child)


_SIMPLE = frozenset({
    "command", "declaration_command", "unset_command", "variable_assignment", "variable_assignments",
})  # fmt: skip
_COMPOUND: dict[str, Callable[[_Builder, Node], Statement | None]] = {
    "test_command": _Builder.test,
    "compound_statement": _Builder.group,
    "do_group": _Builder.group,
    "subshell": _Builder.subshell,
    "list": _Builder.listed,
    "pipeline": _Builder.pipeline,
    "negated_command": _Builder.negation,
    "if_statement": _Builder.conditional,
    "while_statement": _Builder.loop,
    "for_statement": _Builder.each,
    "c_style_for_statement": _Builder.counting,
    "case_statement": _Builder.case,
    "function_definition": _Builder.definition,
    "redirected_statement": _Builder.redirected,
    "ERROR": _Builder.error,
}

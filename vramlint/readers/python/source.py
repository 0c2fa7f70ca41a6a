"""One parsed file: its LibCST tree and the exact text span of every expression."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import libcst as cst

from vramlint.readers.python.blocks import converted
from vramlint.readers.python.positions import Range, positions
from vramlint.text import Document, Place
from vramlint.values import Problem

_GUARDED_LENGTH = 2000
"""Characters below which no nesting is deep enough to exhaust LibCST's stack (1000 parentheses are still fine)."""

_DEEPEST = 1000
"""Levels of CPython's syntax tree that are read where CPython itself sets no bound."""

_TOO_DEEP = "expressions are nested too deep to be read"


class Source:
    """A parsed document, or some of its statements."""

    def __init__(
        self,
        document: Document,
        module: cst.Module,
        ranges: Mapping[int, Range],
        nodes: Sequence[cst.CSTNode],
        shift: int,
    ) -> None:
        """A source.

        Args:
            document: the document.
            module: the tree.
            ranges: where nodes stand in the text that the tree is of, by their identities.
            nodes: those that are asked for by themselves.
            shift: where the text begins in the document.
        """
        self.document = document
        self.module = module
        self.functions = tuple([node for node in nodes if isinstance(node, cst.FunctionDef)])
        """Its functions and methods, and those inside of them."""
        self._ranges = ranges
        self._nodes = nodes
        self._shift = shift
        self.places: dict[int, Place] = {}
        """The places that were asked for, by the identities of their nodes."""

    @property
    def identities(self) -> Iterable[int]:
        """The `id` of every node that has a place; none is used again as long as the source is there."""
        return self._ranges

    def holds(self, node: cst.CSTNode) -> bool:
        """Whether the expression is part of this document."""
        return id(node) in self._ranges

    def place(self, node: cst.CSTNode) -> Place:
        """Where an expression stands, without its surrounding parentheses."""
        found = self.places.get(id(node))
        if found is None:
            found = Place(self.document.path, self.document.span(*self._offsets_of(node)))
            if id(node) in self._ranges:
                self.places[id(node)] = found
        return found

    def text(self, node: cst.CSTNode) -> str:
        """The expression as written, on one line."""
        start, end = self._offsets_of(node)
        return " ".join(self.document.text[start:end].split())

    def _offsets_of(self, node: cst.CSTNode) -> tuple[int, int]:
        start, end = self._ranges.get(id(node), (0, 0))
        return start + self._shift, end + self._shift


def _source(document: Document, text: str, shift: int, parsed: object) -> Source:
    """The source of a text that begins `shift` characters into a document.

    LibCST itself reads what CPython does not, or what is not made of its tree.

    Args:
        document: the document.
        text: the text.
        shift: where it begins.
        parsed: what CPython makes of it.

    Raises:
        ParserSyntaxError, CSTValidationError, RecursionError, UnicodeEncodeError: LibCST has something against it, too.
    """
    alone = "\r" in text.replace("\r\n", "")  # such a CR ends a line for CPython only
    made = converted(text, parsed) if isinstance(parsed, ast.Module) and not alone else None
    if made is not None:
        return Source(document, made.module, made.ranges, made.functions, shift)
    module = cst.parse_module(text)
    found = positions(module, 0, module.default_indent, module.default_newline)
    return Source(document, module, found.ranges, found.nodes, shift)


@lru_cache(maxsize=16)  # a script is read once for every launcher that starts it
def parse(document: Document) -> tuple[Source | None, Problem | None]:
    """The document's tree, or the problem that prevents it."""
    text = document.text.removeprefix("\ufeff")
    parsed = _parsed_by_cpython(text)
    if len(text) >= _GUARDED_LENGTH and isinstance(parsed, _TooDeep):
        return None, _problem(document, "too-large", _TOO_DEEP, 1, 1)
    try:
        return _source(document, text, len(document.text) - len(text), parsed), None
    except cst.ParserSyntaxError as error:
        return None, _syntax_problem(document, text, error)
    except cst.CSTValidationError as error:  # an identifier of a newer Unicode than this Python's
        return None, _invalid(document, text, str(error))
    except RecursionError:
        return None, _problem(document, "too-large", _TOO_DEEP, 1, 1)
    except UnicodeEncodeError as error:
        start = error.start + len(document.text) - len(text)
        place = Place(document.path, document.span(start, start + 1))
        return None, Problem("not-utf8", "a lone surrogate, which no UTF-8 file can hold", place)


@lru_cache(maxsize=2048)  # launchers of one project start the same few scripts, which import the same modules
def parse_part(document: Document, start: int, text: str) -> Source | None:
    """The tree of statements out of a document that CPython has read, None where LibCST doesn't read them.

    Args:
        document: the document.
        start: where the text begins in it.
        text: whole statements; what they hold that is not in the document has the length of what is.
    """
    mark = len(text) - len(text.removeprefix("\ufeff"))
    try:
        return _source(document, text[mark:], start + mark, _parsed_by_cpython(text[mark:]))
    except (cst.ParserSyntaxError, cst.CSTValidationError, RecursionError, UnicodeEncodeError):
        return None


class _TooDeep(Exception):  # noqa: N818 (an outcome that is handed about, never raised)
    """CPython's own parser, which is guarded, gives up: LibCST's would overflow the native stack."""


def syntax_tree(text: str) -> ast.Module | None:
    """CPython's own tree of a text; None where it has something against it."""
    tree = _parsed_by_cpython(text.removeprefix("\ufeff"))
    return tree if isinstance(tree, ast.Module) else None


def _fault_for_cpython(text: str) -> SyntaxError | _TooDeep | None:
    """What the running Python's parser has against a text, which may be newer than that Python."""
    found = _parsed_by_cpython(text)
    return found if isinstance(found, (SyntaxError, _TooDeep)) else None


def _parsed_by_cpython(text: str) -> ast.Module | SyntaxError | _TooDeep | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the analysed file are none of our output
        try:
            tree = ast.parse(text)
        except (RecursionError, MemoryError):
            return _TooDeep()
        except SyntaxError as error:
            return _TooDeep() if "too many nested" in error.msg else error
        except ValueError:  # null bytes, which LibCST reports
            return None
    # Before 3.11 `ast.parse` doesn't mind how deep a tree gets, on which LibCST spends quadratic time.
    return _TooDeep() if sys.version_info < (3, 11) and _deeper_than(tree, _DEEPEST) else tree


def _deeper_than(tree: ast.AST, bound: int) -> bool:
    level: list[ast.AST] = [tree]
    for _ in range(bound):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return False
    return True


def _syntax_problem(document: Document, text: str, error: cst.ParserSyntaxError) -> Problem:
    """CPython words syntax errors best; LibCST's own message stands where the running Python sees none."""
    fault = _fault_for_cpython(text)
    if isinstance(fault, SyntaxError) and fault.lineno is not None:
        return _problem(document, "syntax-error", fault.msg, fault.lineno, fault.offset or 1)
    message = str(error.message).strip().partition("\n")[0].removeprefix("parser error: ")
    return _problem(document, "syntax-error", message or "invalid syntax", error.raw_line, error.raw_column + 1)


def _invalid(document: Document, text: str, message: str) -> Problem:
    """A tree that LibCST refuses after parsing, which has no place."""
    fault = _fault_for_cpython(text)
    if isinstance(fault, SyntaxError) and fault.lineno is not None:
        return _problem(document, "syntax-error", fault.msg, fault.lineno, fault.offset or 1)
    return _problem(document, "syntax-error", message, 1, 1)


def _problem(document: Document, kind: str, message: str, line: int, column: int) -> Problem:
    line = min(max(line, 1), len(document.line_starts))
    start = document.offset(line, min(max(column, 1), len(document.line(line)) + 1))
    return Problem(kind, message, Place(document.path, document.span(start, min(start + 1, len(document.text)))))

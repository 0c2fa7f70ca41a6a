"""Parsed files: their LibCST trees and the exact text span of every expression."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from functools import lru_cache

import libcst as cst

from vramlint import syntax
from vramlint.readers.python.blocks import converted
from vramlint.readers.python.positions import Range, positions
from vramlint.text import Document, Place
from vramlint.values import Problem

_GUARDED_LENGTH = 2000
"""Characters below which no nesting is deep enough to exhaust LibCST's stack (1000 parentheses are still fine)."""

_DEEPEST = 1000
"""Levels of CPython's syntax tree that are read where CPython itself sets no bound."""

_TOO_DEEP = "expressions are nested too deep to be read"


_NOWHERE = (0, 0)
"""Where a node stands of which that is not known."""


class Source:
    """A document of which nodes are made."""

    def __init__(self, document: Document, ranges: Mapping[int, Range], shift: int) -> None:
        """A source.

        Args:
            document: the document.
            ranges: where nodes stand in the text that they are made of, by their identities; none is used again as
                long as the source is there.
            shift: where the text begins in the document.
        """
        self.document = document
        self.shift = shift
        self.ranges = ranges
        self.places: dict[int, Place] = {}
        """The places that were asked for, by the identities of their nodes."""
        self._texts: dict[int, str] = {}

    def holds(self, node: cst.CSTNode) -> bool:
        """Whether the expression is part of this document."""
        return id(node) in self.ranges

    def place(self, node: cst.CSTNode) -> Place:
        """Where an expression stands, without its surrounding parentheses."""
        key = id(node)
        found = self.places.get(key)
        if found is None:
            document, shift = self.document, self.shift
            start, end = self.ranges.get(key, _NOWHERE)
            found = Place(document.path, document.span(start + shift, end + shift))
            if key in self.ranges:
                self.places[key] = found
        return found

    def text(self, node: cst.CSTNode) -> str:
        """The expression as written, on one line."""
        key = id(node)
        found = self._texts.get(key)
        if found is None:
            start, end = self.ranges.get(key, _NOWHERE)
            found = " ".join(self.document.text[start + self.shift : end + self.shift].split())
            if key in self.ranges:
                self._texts[key] = found
        return found

    def left_out(self, node: cst.CSTNode) -> int:
        """How much of a function there is to read with its body, where that is read by itself; else 0."""
        del node
        return 0


class Script(Source):
    """A parsed document: its tree, and where the nodes of that stand."""

    def __init__(
        self,
        document: Document,
        module: cst.Module,
        ranges: Mapping[int, Range],
        shift: int,
    ) -> None:
        """A script; `module` is its tree, the rest as of any source."""
        super().__init__(document, ranges, shift)
        self.module = module


def _script(document: Document, text: str, shift: int, parsed: object) -> Script:
    """The script that a text is which begins `shift` characters into a document.

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
    starts = () if shift else document.line_starts
    made = converted(text, parsed, starts) if isinstance(parsed, ast.Module) and not alone else None
    if made is not None:
        return Script(document, made.module, made.ranges, shift)
    module = cst.parse_module(text)
    found = positions(module, 0, module.default_indent, module.default_newline)
    return Script(document, module, found.ranges, shift)


@lru_cache(maxsize=16)  # a script is read once for every launcher that starts it
def parse(document: Document) -> tuple[Script | None, Problem | None]:
    """The document's tree, or the problem that prevents it."""
    text = document.text.removeprefix("\ufeff")
    parsed = _parsed_by_cpython(text)
    if len(text) >= _GUARDED_LENGTH and isinstance(parsed, _TooDeep):
        return None, _problem(document, "too-large", _TOO_DEEP, 1, 1)
    try:
        return _script(document, text, len(document.text) - len(text), parsed), None
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
    try:
        tree = syntax.module(text)
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

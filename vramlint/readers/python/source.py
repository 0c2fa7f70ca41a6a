"""One parsed file: its LibCST tree and the exact text span of every expression."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from itertools import accumulate

import libcst as cst
from libcst._nodes.internal import CodegenState

from vramlint.text import Document, Place
from vramlint.values import Problem

_GUARDED_LENGTH = 2000
"""Characters below which no nesting is deep enough to exhaust LibCST's stack (1000 parentheses are still fine)."""

_DEEPEST = 1000
"""Levels of CPython's syntax tree that are read where CPython itself sets no bound."""

_TOO_DEEP = "expressions are nested too deep to be read"


class _Recorder(CodegenState):
    """Writes the tree's tokens back and remembers between which tokens each expression stands.

    LibCST has no positions in its nodes. Its `PositionProvider` keeps line and column up to date after every
    token; noting token numbers instead and adding up lengths once at the end takes a third of the time.
    """

    spans: dict[int, tuple[int, int]]
    """By identity: what LibCST's nodes hash by is a method in Python."""
    nodes: list[cst.CSTNode]
    """What keeps the identities."""

    def record_syntactic_position(  # type: ignore[override]  # a context manager, if no generator's
        self,
        node: cst.CSTNode,
        *,
        start_node: cst.CSTNode | None = None,
        end_node: cst.CSTNode | None = None,
    ) -> _Stretch:
        return _Stretch(self, node)


class _Stretch(AbstractContextManager[None]):
    """The tokens that are written inside the `with`. As a generator it would take twice as long."""

    __slots__ = ("_node", "_recorder", "_start")

    def __init__(self, recorder: _Recorder, node: cst.CSTNode) -> None:
        self._recorder = recorder
        self._node = node
        self._start = 0

    def __enter__(self) -> None:
        self._start = len(self._recorder.tokens)

    def __exit__(self, *raised: object) -> None:
        recorder, node = self._recorder, self._node
        recorder.spans[id(node)] = self._start, len(recorder.tokens)
        recorder.nodes.append(node)


class Source:
    """A parsed document, or some of its statements."""

    def __init__(self, document: Document, module: cst.Module, start: int | None = None) -> None:
        """`start` is where the text of `module` begins in the document, if it is not all of it."""
        self.document = document
        self.module = module
        recorder = _Recorder(default_indent=module.default_indent, default_newline=module.default_newline)
        recorder.spans, recorder.nodes = {}, []
        module._codegen(recorder)
        # a byte order mark is no token, so everything stands one further on
        first = start if start is not None else 1 if document.text.startswith("\ufeff") else 0
        self._offsets = list(accumulate(map(len, recorder.tokens), initial=first))
        self._spans = recorder.spans
        self._nodes = recorder.nodes
        self.places: dict[int, Place] = {}
        """The places that were asked for, by the identities of their nodes."""

    @property
    def identities(self) -> Iterable[int]:
        """The `id` of every node that has a place; none is used again as long as the source is there."""
        return self._spans

    def holds(self, node: cst.CSTNode) -> bool:
        """Whether the expression is part of this document."""
        return id(node) in self._spans

    @cached_property
    def functions(self) -> tuple[cst.FunctionDef, ...]:
        """Its functions and methods, and those inside of them."""
        return tuple([node for node in self._nodes if isinstance(node, cst.FunctionDef)])

    def place(self, node: cst.CSTNode) -> Place:
        """Where an expression stands, without its surrounding parentheses."""
        found = self.places.get(id(node))
        if found is None:
            found = Place(self.document.path, self.document.span(*self._offsets_of(node)))
            if id(node) in self._spans:
                self.places[id(node)] = found
        return found

    def text(self, node: cst.CSTNode) -> str:
        """The expression as written, on one line."""
        start, end = self._offsets_of(node)
        return " ".join(self.document.text[start:end].split())

    def _offsets_of(self, node: cst.CSTNode) -> tuple[int, int]:
        first, last = self._spans.get(id(node), (0, 0))
        # the line end that a block was written with is taken back at the end of a file without one
        return self._offsets[first], self._offsets[min(last, len(self._offsets) - 1)]


@lru_cache(maxsize=16)  # a script is read once for every launcher that starts it
def parse(document: Document) -> tuple[Source | None, Problem | None]:
    """The document's tree, or the problem that prevents it."""
    text = document.text.removeprefix("\ufeff")
    if len(text) >= _GUARDED_LENGTH and isinstance(_fault_for_cpython(text), _TooDeep):
        return None, _problem(document, "too-large", _TOO_DEEP, 1, 1)
    try:
        return Source(document, cst.parse_module(text)), None
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
        return Source(document, cst.parse_module(text[mark:]), start + mark)
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

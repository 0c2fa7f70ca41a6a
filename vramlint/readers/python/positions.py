"""Where LibCST's nodes stand, which they do not know themselves."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import accumulate
from typing import NamedTuple

import libcst as cst
from libcst._nodes.internal import CodegenState

Range = tuple[int, int]
"""Offsets of the first character of an expression, and of the one behind its last."""


class Positions(NamedTuple):
    """Where the nodes of a tree stand."""

    ranges: dict[int, Range]
    """By identity: what LibCST's nodes hash by is a method in Python."""
    nodes: list[cst.CSTNode]
    """What keeps the identities."""


def positions(node: cst.CSTNode, first: int, indent: str = "    ", newline: str = "\n") -> Positions:
    """The places of all nodes of a tree, without the parentheses around them.

    Args:
        node: the root of the tree, or an expression.
        first: the offset of its text.
        indent: its module's indent.
        newline: its module's line end.
    """
    recorder = _Recorder(default_indent=indent, default_newline=newline)
    recorder.spans, recorder.nodes = {}, []
    node._codegen(recorder)
    offsets = list(accumulate(map(len, recorder.tokens), initial=first))
    # the line end that a block was written with is taken back at the end of a file without one
    most = len(offsets) - 1
    ranges = {key: (offsets[start], offsets[min(end, most)]) for key, (start, end) in recorder.spans.items()}
    return Positions(ranges, recorder.nodes)


class _Recorder(CodegenState):
    """Writes the tree's tokens back and remembers between which tokens each expression stands.

    LibCST's `PositionProvider` keeps line and column up to date after every token; noting token numbers instead and
    adding up lengths once at the end takes a third of the time.
    """

    spans: dict[int, tuple[int, int]]
    nodes: list[cst.CSTNode]

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

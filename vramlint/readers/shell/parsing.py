"""Parsing: once as it is, and where the grammar does not get it once more with words that hold nothing."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.readers.shell import scan
from vramlint.readers.shell.grammar import Error, block_of, errors_of
from vramlint.readers.shell.masking import masked
from vramlint.readers.shell.source import parsable
from vramlint.readers.shell.syntax import Block

if TYPE_CHECKING:
    from tree_sitter import Parser

_LAST_OF_LINE = lazy(scan.PLACEHOLDER.pattern + r"[ \t]*\n")
"""A placeholder whose `>` takes the next line for its target, in the grammar's eyes."""


class Parsed(Struct, frozen=True):
    """The statements of a text, and where the grammar found something amiss."""

    block: Block
    errors: tuple[Error, ...] = ()
    plain: str = ""
    """The text without quotes, tests and comments, where there are errors."""


@cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


def parse(text: str, start: int = 0, end: int | None = None) -> Parsed:
    """The statements of `text[start:end]`; their offsets count from the start of `text`."""
    end = len(text) if end is None else end
    root = _parser().parse(parsable(text[start:end])).root_node
    errors: list[Error] = []
    text_of = ""
    if root.has_error or _LAST_OF_LINE.search(text, start, end):
        plain = masked(text[start:end])
        root = _parser().parse(parsable(plain.text)).root_node
        text_of = plain.text
        if plain.unclosed is not None:
            character = text[start + plain.unclosed]
            message = f"no matching {character} up to the end"
            errors.append(Error(start + plain.unclosed, start + plain.unclosed + 1, message, certain=True))
        errors += errors_of(root, text, start, end)
    return Parsed(block_of(root, text, start, end), tuple(errors), text_of)

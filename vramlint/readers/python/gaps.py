"""What stands between the parts of a syntax tree: parentheses, keywords, line ends.

CPython's tree says where expressions stand, but of a parenthesis only that of the expression that it belongs to.
"""

from __future__ import annotations

from vramlint.patterns import lazy

_BLANK = lazy(r"(?:[ \t\f\r\n\\]|#[^\n]*)*")
"""What may stand between two tokens."""
_CLOSING = lazy(r"(?:[ \t\f\r\n\\]|#[^\n]*\n)*\)")
"""A parenthesis that closes, in no comment."""


class Unsupported(Exception):  # noqa: N818 (an outcome: LibCST reads the text itself then)
    """Something in a text that is not made a node of here."""


def behind_blank(text: str, start: int) -> int:
    """Where the next token begins."""
    found = _BLANK.match(text, start)
    return start if found is None else found.end()


def behind_closing(text: str, start: int, most: int) -> int:
    """The end of an expression that ends at `start`, with the parentheses around it that close before `most`."""
    found = _CLOSING.match(text, start, most)
    while found is not None:
        start = found.end()
        found = _CLOSING.match(text, start, most)
    return start


def count_closing(text: str, start: int) -> int:
    """How many parentheses close right behind an expression."""
    count = 0
    while (found := _CLOSING.match(text, start)) is not None:
        start, count = found.end(), count + 1
    return count


def count_opening(text: str, start: int, end: int) -> int:
    """How many parentheses open between two places that have nothing else between them."""
    count = 0
    start = behind_blank(text, start)
    while start < end and text[start] == "(":
        start, count = behind_blank(text, start + 1), count + 1
    return count


def token(text: str, start: int, word: str) -> int:
    """Where a word stands that is the next token behind comments and semicolons.

    Raises:
        Unsupported: another one is.
    """
    place = behind_blank(text, start)
    while text.startswith(";", place):
        place = behind_blank(text, place + 1)
    if not text.startswith(word, place):
        raise Unsupported(word)
    return place


def after_header(text: str, first: int) -> int:
    """Where the line begins that follows a block's header, of a block whose first statement's line begins at `first`.

    Lines of comments and blank ones in between belong to the block.
    """
    while first:
        above = text.rfind("\n", 0, first - 1) + 1
        written = text[above : first - 1].strip()
        if written and written[0] != "#":
            return first
        first = above
    return first


def behind_comments(text: str, start: int, indent: str, most: int) -> int:
    """Where a block ends of which the last statement's lines end at `start`: comments as far in belong to it.

    Those that begin at `most` or behind do not.
    """
    end = start
    while start < most:
        stop = text.find("\n", start) + 1 or len(text)
        written = text[start:stop]
        inside = written.startswith(indent)
        if written.strip() and not (inside and written.lstrip()[0] == "#"):
            break
        start = stop
        end = stop if inside else end
    return end

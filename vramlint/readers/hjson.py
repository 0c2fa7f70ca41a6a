"""Reads hjson, the JSON dialect that DeepSpeed's config parser takes.

The grammar is that of hjson-py 3.1.0 (hjson/decoder.py): comments, commas optional, keys and strings without
quotes, single quotes, multi-line strings, braces around the root optional.
"""

from __future__ import annotations

import re
from contextlib import suppress

from vramlint.patterns import lazy
from vramlint.readers.json_scalars import number, unescape
from vramlint.readers.tree import ReadError, TreeBuilder
from vramlint.text import Document
from vramlint.values import Plain, Reading

_GAP = lazy(r"(?:[ \t\n\r]+|\#[^\r\n]*|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_BODIES = {
    '"': lazy(r'[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*'),
    "'": lazy(r"[^'\\\x00-\x1f]*(?:\\.[^'\\\x00-\x1f]*)*"),
}
_KEY = lazy(r"(?P<name>[^ \t\n\r{}\[\],:]+)[ \t\n\r]*:")
_LINE = lazy(r"[^\r\n]*")
_LITERAL = lazy(
    r"(?:(?P<word>true|false|null)|(?P<number>-?(?:0|[1-9][0-9]*)(?P<real>(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)))"
    r"[ \t]*(?=[\r\n,}\]\#]|//|/\*|\Z)"
)
PLACEHOLDER = lazy(
    r"(?:\$\{[^{}\s]*\}|\$[A-Za-z_]\w*|\{\{[^{}\r\n]*\}\}|<[\w -]+>|@\w+@|%\w+%"
    r"|[A-Z][A-Z0-9]{2,}(?:_\w+)?|[A-Z]{2}_\w+)"
    r"(?=[ \t]*(?:[\r\n,}\]]|\Z))"
)
"""What a template holds in place of a value, for `sed`, `envsubst` or a script to fill in: `MICRO_BATCH`, `${STAGE}`,
`{{ stage }}`, `<size>`. DeepSpeed knows no string of that form."""
_WORDS: dict[str, Plain] = {"true": True, "false": False, "null": None}
_PUNCTUATION = "{}[],:"


def read_hjson(document: Document) -> Reading:
    """The tree of an hjson document.

    Numbers are those of JSON: hjson itself turns `5e8` into an int, here it is a float as everywhere. A root that
    is neither a table nor a list is refused.

    Raises:
        ReadError: the text is not hjson.
    """
    return _Reader(document).read()


def gaps(document: Document) -> tuple[tuple[int, int], ...]:
    """The offsets of what stands between an hjson document's tokens, comments included, up to its first fault."""
    reader = _Reader(document)
    with suppress(ReadError):
        reader.read()
    return tuple(reader.gaps)


class _Reader:
    """One pass over the text; `position` is what is read so far."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.text = document.text
        self.builder = TreeBuilder(document)
        self.position = 1 if self.text.startswith("\ufeff") else 0
        self.bare = False
        """The root table has no braces."""
        self.gaps: list[tuple[int, int]] = []
        """Offsets of whitespace and comments."""

    def read(self) -> Reading:
        self.gap()
        self.bare = self.text[self.position : self.position + 1] not in ("{", "[")
        if self.bare:
            self.builder.open(True, self.position)
            self.key()
        self.value()
        while self.builder.depth:
            self.after_value()
        self.gap()
        if self.position < len(self.text):
            raise ReadError("expected the end of the file after the value", self.position)
        return Reading(self.builder.root, tuple(self.builder.problems))

    def gap(self) -> str:
        """Skips whitespace and comments; gives the next character, empty at the end."""
        gap = _GAP.match(self.text, self.position)
        if gap is not None and gap.end() > self.position:
            self.gaps.append((self.position, gap.end()))
            self.position = gap.end()
        if self.text.startswith("/*", self.position):
            raise ReadError("the comment is not closed", self.position, self.position + 2)
        return self.text[self.position : self.position + 1]

    def value(self) -> None:
        """Reads a value, or only the start of a non-empty container."""
        while True:
            mark = self.gap()
            if mark == "":
                raise self.ended("a value")
            if mark not in "{[" or PLACEHOLDER.match(self.text, self.position):
                self.scalar(mark)
                return
            self.builder.open(mark == "{", self.position)
            self.position += 1
            if self.gap() == ("}" if mark == "{" else "]"):
                self.close()
                return
            if mark == "{":
                self.key()

    def key(self) -> None:
        """Reads a key and its colon."""
        start = self.position
        quote = self.gap()
        if quote == "":
            raise self.ended("a key")
        start = self.position
        if quote in _BODIES:
            name = self.quoted(quote)
            end = self.position
            if self.gap() != ":":
                raise ReadError("expected `:` after the key", self.position)
            self.position += 1
        else:
            match = _KEY.match(self.text, start)
            if match is None:
                raise ReadError("expected a key and `:`", start)
            name, end = match["name"], match.end("name")
            self.position = match.end()
        self.builder.key(name, start, end)

    def after_value(self) -> None:
        """Reads the closing bracket, or an optional comma and the next member."""
        bracket = "}" if self.builder.in_table else "]"
        mark = self.gap()
        if mark == ",":
            self.position += 1
            mark = self.gap()
        if mark == bracket and not (self.bare and self.builder.depth == 1):
            self.close()
        elif mark == "" and self.bare and self.builder.depth == 1:
            self.builder.close(self.position)
        elif mark == "":
            raise self.ended(f"`{bracket}`")
        else:
            if self.builder.in_table:
                self.key()
            self.value()

    def close(self) -> None:
        self.position += 1
        self.builder.close(self.position)

    def scalar(self, mark: str) -> None:
        """Reads a string, a literal, or the rest of the line as a string."""
        start = self.position
        placeholder = PLACEHOLDER.match(self.text, start)
        if placeholder is not None:
            self.position = placeholder.end()
            self.builder.unknown(f"the placeholder {placeholder[0]} of a template", start, self.position)
            return
        value: Plain
        if self.text.startswith("'''", start):
            value = self.multiline()
        elif mark in _BODIES:
            value = self.quoted(mark)
        elif mark in _PUNCTUATION:
            raise ReadError("expected a value", start)
        elif (literal := _LITERAL.match(self.text, start)) is not None:
            word = literal["word"]
            value = _WORDS[word] if word else number(literal["number"], literal["real"] != "", start)
            self.position = literal.end("word" if word else "number")
        else:
            line = _LINE.match(self.text, start)
            value = line[0].rstrip() if line else ""
            self.position = start + len(value)
        self.builder.scalar(value, start, self.position)

    def quoted(self, quote: str) -> str:
        """Reads a string in single or double quotes."""
        start = self.position + 1
        body = _BODIES[quote].match(self.text, start)
        end = body.end() if body else start
        if not self.text.startswith(quote, end):
            raise ReadError("the string is not closed on its line", self.position, end)
        self.position = end + 1
        inner = self.text[start:end]
        if quote == "'":
            inner = re.sub(r"\\(.)|(\")", lambda match: "'" if match[1] == "'" else _json_escape(match), inner)
        return unescape(inner, start)

    def multiline(self) -> str:
        """Reads a string in triple single quotes, its indentation that of the opening quotes."""
        start = self.position
        _, column = self.document.position(start)
        end = self.text.find("'''", start + 3)
        if end < 0:
            raise ReadError("the string in triple quotes is not closed", start, start + 3)
        self.position = end + 3
        body = self.text[start + 3 : end].replace("\r", "")
        first, *rest = body.split("\n")
        lines = [line[min(column - 1, len(line) - len(line.lstrip(" \t"))) :] for line in rest]
        if first.strip(" \t"):
            lines.insert(0, first.lstrip(" \t"))
        elif not rest:
            return ""
        text = "\n".join(lines)
        return text.removesuffix("\n")

    def ended(self, expected: str) -> ReadError:
        """The fault of a text that stops too early."""
        size = len(self.text)
        where = ""
        if self.builder.depth > self.bare:
            line, _ = self.document.position(self.builder.opened_at)
            where = f": the `{self.text[self.builder.opened_at]}` of line {line} is not closed"
        return ReadError(f"unexpected end of the file, expected {expected}{where}", size, size)


def _json_escape(match: re.Match[str]) -> str:
    """The JSON spelling of an escape or a double quote inside single quotes."""
    return '\\"' if match[2] else match[0]

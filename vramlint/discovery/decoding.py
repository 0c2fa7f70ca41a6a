"""From bytes to text, as the tools decode them that read the file for the run itself."""

from __future__ import annotations

from vramlint.patterns import lazy
from vramlint.text import Document, Place, Span
from vramlint.values import Problem

_COOKIE = lazy(rb"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*coding[:=]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
START = Span(1, 1, 1, 1)


def decode(path: str, data: bytes, form: str) -> Document | Problem:
    """The text of a file, its line ends and a byte order mark kept; a `not-utf8` problem where it can't be decoded.

    Python files are decoded as PEP 263 says (cookie, byte order mark, else UTF-8); the others as UTF-8. Of a notebook
    it is the text of the code cells, or the problem with its JSON.
    """
    if data.startswith(_UTF16):
        return Problem("not-utf8", "the file is UTF-16; save it as UTF-8", Place(path, START))
    encoding = encoding_of(path, data, form)
    if isinstance(encoding, Problem):
        return encoding
    try:
        document = Document.of(path, data.decode(encoding))
    except UnicodeDecodeError as error:
        message = f"byte 0x{data[error.start]:02x} is not valid {encoding.upper()}"
        return Problem("not-utf8", message, Place(path, _span(data[: error.start].decode(encoding, "replace"))))
    except LookupError:
        return Problem("not-utf8", f"`{encoding}` is not a text encoding", Place(path, START))
    if form == "notebook":
        from vramlint.readers.notebook import notebook_document

        return notebook_document(document)
    return document


def encoding_of(path: str, data: bytes, form: str) -> str | Problem:
    """The encoding by which a file is read; a `not-utf8` problem where what it declares is none."""
    return _cookie(path, data) if form == "python" and _COOKIE.match(data) else "utf-8"


def _cookie(path: str, data: bytes) -> str | Problem:
    """The encoding that a Python file declares; `utf-8` when it has a byte order mark, which stays in the text."""
    import io
    import tokenize

    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError as error:
        return Problem("not-utf8", str(error.msg or error), Place(path, START))
    return "utf-8" if encoding == "utf-8-sig" else encoding


def _span(before: str) -> Span:
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return Span(line, column, line, column + 1)

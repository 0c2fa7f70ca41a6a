"""The scalars of JSON, as strict JSON and hjson share them."""

from __future__ import annotations

from vramlint.patterns import lazy
from vramlint.readers.tree import ReadError

_SURROGATE = lazy("[\ud800-\udfff]")


def unescape(body: str, start: int) -> str:
    """The text of a JSON string's body, which starts at offset `start`.

    Raises:
        ReadError: an escape that JSON doesn't have.
    """
    if "\\" not in body:
        return body
    from json import JSONDecodeError, loads

    try:
        text: str = loads(f'"{body}"')
    except JSONDecodeError as error:
        raise ReadError("no such escape in a string", start + error.pos - 1, start + error.pos + 1) from None
    return _SURROGATE.sub("\ufffd", text)


def number(text: str, is_real: bool, start: int) -> int | float:
    """The value of a JSON number: an int stays an int, `5e8` is a float.

    Raises:
        ReadError: more digits than Python converts.
    """
    try:
        return float(text) if is_real else int(text)
    except ValueError:
        raise ReadError("the number has too many digits", start, start + len(text)) from None

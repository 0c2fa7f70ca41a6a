"""Words of a command line as the values that they spell."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.patterns import lazy
from vramlint.surfaces.launch.counts import spoken
from vramlint.surfaces.launch.words import Word
from vramlint.values import Alternatives, Option, Plain, Scalar, Unknown, Value

_WHOLE = lazy(r"[-+]?\d{1,18}$")
_NUMBER = lazy(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?$")
_WORDS: dict[str, Plain] = {"true": True, "false": False, "null": None, "none": None}
"""What parsers of command lines take for a boolean or for nothing, in any case of letters."""


def typed(word: Word, *, words: bool = True) -> Value:
    """The value that a word spells, with its place and the road it came by.

    Args:
        word: of the command line.
        words: take `true`, `false` and `none` for what they say.
    """
    return _typed(word.value, word, words)


def plain_of(text: str) -> Plain:
    """What a text spells: a number, a truth, nothing, or itself."""
    return _plain(text, True)


def _typed(value: Value, word: Word, words: bool) -> Value:
    match value:
        case Scalar():
            return replace(
                value, value=_plain(value.value, words), via=spoken(value.via), place=value.place or word.place
            )
        case Alternatives():
            options = tuple([Option(_typed(item.value, word, words), item.condition) for item in value.options])
            return replace(value, options=options)
        case Unknown(place=None):
            return replace(value, place=word.place)
    return value


def _plain(value: Plain, words: bool) -> Plain:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if words and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.match(text):
        return int(text)
    return float(text) if _NUMBER.match(text) else value

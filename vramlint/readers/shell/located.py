"""From pieces to located values: what a reader of the script gets."""

from __future__ import annotations

from itertools import takewhile

from vramlint.readers.shell.fields import stream
from vramlint.readers.shell.pieces import Break, Choice, Fork, Hole, Pieces, Text, Word, shown, variants
from vramlint.readers.shell.source import Range
from vramlint.readers.shell.state import Array, Held
from vramlint.text import Place
from vramlint.values import Alternatives, Entry, Items, Option, Scalar, Unknown, Value

LONGEST_SHOWN = 80
"""Characters of a word that a reason quotes."""


def value(word: Word, at: Range) -> Value:
    """The value of a word that stands at `at`."""
    if isinstance(word, Fork):
        options = tuple(
            Option(Items(tuple(value(item, at) for item in words), _place(at)), text) for words, text in word.options
        )
        return Alternatives(_flat(options), _place(at)) if len(options) > 1 else options[0].value
    if len(word) == 1 and isinstance(word[0], Text):
        piece = word[0]
        return Scalar(piece.text, piece.range.source.place(piece.range.start, piece.range.end), piece.via)
    if any(isinstance(piece, Break) for piece in word):
        return Unknown("several words", _place(at))
    if any(isinstance(piece, Choice) for piece in word):
        return _alternatives(word, at)
    hole = next((piece for piece in word if isinstance(piece, Hole)), None)
    if hole is not None:
        return _unknown(word, hole)
    place, via = _written(word, at)
    return Scalar("".join(piece.text for piece in word if isinstance(piece, Text)), place, via)


def _flat(options: tuple[Option, ...]) -> tuple[Option, ...]:
    """Options of which none holds alternatives itself."""
    found: list[Option] = []
    for option in options:
        if isinstance(option.value, Items) and any(isinstance(item, Alternatives) for item in option.value.values):
            items = tuple(
                Unknown("one of several values", item.place) if isinstance(item, Alternatives) else item
                for item in option.value.values
            )
            found.append(Option(Items(items, option.value.place), option.condition))
        else:
            found.append(option)
    return tuple(found)


def _alternatives(word: Pieces, at: Range) -> Value:
    options: dict[object, Option] = {}
    for pieces, condition in variants(word):
        item = value(pieces, at)
        key: object = item.value if isinstance(item, Scalar) else item
        if key in options:
            both = dict.fromkeys(filter(None, (options[key].condition, condition)))
            options[key] = Option(options[key].value, " || ".join(both))
        else:
            options[key] = Option(item, condition)
    found = tuple(options.values())
    return Alternatives(found, _place(at)) if len(found) > 1 else found[0].value


def _unknown(word: Pieces, hole: Hole) -> Unknown:
    """What is not known of a word: the reason of its first unknown part, and the text before and behind all those."""
    text = shown(word)
    flag, equals, rest = text.partition("=")
    whole = hole.written == text or (equals and flag.startswith("-") and rest == hole.written)
    reason = hole.reason if whole else f"value of {_brief(text)}: {hole.reason}"
    front, back = (takewhile(lambda piece: isinstance(piece, Text), way) for way in (word, reversed(word)))
    return Unknown(reason, _place(hole.range), shown(tuple(front)), shown(tuple(reversed(tuple(back)))))


def _brief(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _written(word: Pieces, at: Range) -> tuple[Place, str]:
    """Where a word of several pieces is written.

    `--lr=$LR` at the literal of LR; one that came through a single variable in the assignment of that variable, any
    other where it stands.
    """
    pieces = [piece for piece in word if isinstance(piece, Text)]
    if not pieces:
        return _place(at), "shell"
    literal = [piece for piece in pieces if piece.ref is None]
    brought = [piece for piece in pieces if piece.ref is not None]
    if not brought:
        return _place(at), pieces[0].via
    if len(brought) == 1 and "".join(piece.text for piece in literal).endswith("=") and pieces[-1] is brought[0]:
        return _place(brought[0].range), brought[0].via
    if not literal and len({piece.ref for piece in brought}) == 1:
        sites = [piece.site or piece.range for piece in brought]
        if len({site.source for site in sites}) == 1:
            first, last = min(site.start for site in sites), max(site.end for site in sites)
            vias = {piece.via for piece in brought}
            return sites[0].source.place(first, last), vias.pop() if len(vias) == 1 else "computed"
    return _place(at), "computed"


def _place(at: Range) -> Place:
    return at.source.place(at.start, at.end)


def entry(name: str, held: Held) -> Entry:
    """A variable of the environment."""
    pieces = stream(held.elements[:1]) if isinstance(held, Array) else held
    at = _range(pieces)
    if at is None:
        return Entry(name, None, Scalar("", None, "shell"))
    return Entry(name, None, value(pieces, at))


def _range(pieces: Pieces) -> Range | None:
    for piece in pieces:
        if isinstance(piece, (Text, Hole)):
            return piece.site or piece.range
        if isinstance(piece, Choice):
            found = next((at for option, _ in piece.options if (at := _range(option))), None)
            if found:
                return found
    return None

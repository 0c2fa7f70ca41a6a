"""Word splitting: from the pieces of an expansion to words."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.readers.shell.pieces import (
    BREAK,
    Break,
    Choice,
    Fork,
    Piece,
    Pieces,
    Text,
    Word,
    chosen,
    known,
    variants,
)

BLANKS = " \t\n"


def split(pieces: Pieces, separators: str = BLANKS) -> list[Word]:
    """The words of an expanded word: none, one or several."""
    if len(pieces) == 1 and isinstance(pieces[0], Text) and (pieces[0].quoted or pieces[0].ref is None):
        return [pieces]
    words: list[Word] = []
    for segment in _segments(pieces, separators):
        if any(isinstance(piece, Choice) for piece in segment):
            words.extend(_alternatives(segment, separators))
        else:
            words.append(segment)
    return words


def _segments(pieces: Pieces, separators: str) -> list[Pieces]:
    """The pieces cut at unquoted blanks of expansions and at breaks."""
    found: list[Pieces] = []
    current: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Break):
            found.append(tuple(current))
            current = []
        elif isinstance(piece, Text) and not piece.quoted and piece.ref is not None:
            for index, part in enumerate(_parts(piece, separators)):
                if index:
                    found.append(tuple(current))
                    current = []
                if part.text:
                    current.append(part)
        else:
            current.append(piece)
    found.append(tuple(current))
    return [segment for segment in found if segment]


def _parts(piece: Text, separators: str) -> list[Text]:
    text = piece.text
    if separators.isspace() and not any(mark in text for mark in separators):
        return [piece]
    found: list[Text] = []
    start = 0
    for index, character in enumerate(text):
        if character in separators:
            found.append(piece.cut(start, index))
            start = index + 1
    found.append(piece.cut(start, len(text)))
    return found


def _alternatives(segment: Pieces, separators: str) -> list[Word]:
    """A segment with choices: word by word where all options have as many words, else what differs as a fork."""
    options = [(_segments(pieces, separators), condition) for pieces, condition in variants(segment)]
    shortest = min(len(words) for words, _ in options)
    if all(len(words) == shortest for words, _ in options):
        return [chosen([(words[index], text) for words, text in options], None) for index in range(shortest)]
    front = 0
    while front < shortest and _same([words[front] for words, _ in options]):
        front += 1
    back = 0
    while back < shortest - front and _same([words[-1 - back] for words, _ in options]):
        back += 1
    first = options[0][0]
    middle = Fork(tuple((tuple(words[front : len(words) - back]), text) for words, text in options))
    return [*first[:front], middle, *first[len(first) - back :]]


def _same(words: Sequence[Pieces]) -> bool:
    texts = {known(word) for word in words}
    return len(texts) == 1 and None not in texts


def stream(words: Sequence[Word]) -> Pieces:
    """Words as pieces with breaks in between, as `"${A[@]}"` expands."""
    found: list[Piece] = []
    for index, word in enumerate(words):
        if index:
            found.append(BREAK)
        if isinstance(word, Fork):
            found.append(Choice(tuple((stream(option), text) for option, text in word.options)))
        else:
            found.extend(word)
    return tuple(found)

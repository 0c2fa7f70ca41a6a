"""What an expansion yields: pieces of text that remember where they are written, holes, and choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from vramlint.readers.shell.source import Range

MOST_OPTIONS = 16
LONGEST = 50_000
"""Characters that a variable may hold: a script that doubles a string in a loop is not followed further."""


class Text(NamedTuple):
    """Known text. `ref` is the expansion in the word at hand that brought it, None for a literal."""

    text: str
    range: Range
    via: str
    quoted: bool
    ref: Range | None = None
    site: Range | None = None
    """Where it stands in the assignment of the variable through which it came last."""

    def cut(self, start: int, end: int) -> Text:
        """A part of the text, at its exact place where the text is written as it is."""
        source, first, last = self.range
        if last - first != len(self.text):
            return self._replace(text=self.text[start:end])
        return self._replace(text=self.text[start:end], range=Range(source, first + start, first + end))


class Hole(NamedTuple):
    """Text that is not known, and why."""

    reason: str
    written: str
    range: Range
    quoted: bool
    given: str | None = None
    """What it is when nothing is given, if it depends on arguments or the environment only."""
    ref: Range | None = None
    site: Range | None = None


class Choice(NamedTuple):
    """One of several texts, each under a condition."""

    options: tuple[tuple[Pieces, str], ...]
    ref: Range | None = None
    site: Range | None = None


class Break(NamedTuple):
    """Where a word ends inside an expansion: between the elements of `"${A[@]}"`."""

    mark: str = "break"


BREAK = Break()
STAND = "__part_"
"""How the variables are called that stand for unknown parts of a text that is read as commands."""
Piece = Text | Hole | Choice | Break
Pieces = tuple[Piece, ...]


class Fork(NamedTuple):
    """Words that are there under a condition only, or differ in number."""

    options: tuple[tuple[tuple[Word, ...], str], ...]


Word = Pieces | Fork


def known(pieces: Pieces) -> str | None:
    """The text, None if a part is unknown or a choice."""
    if len(pieces) == 1 and isinstance(pieces[0], Text):
        return pieces[0].text
    texts: list[str] = []
    for piece in pieces:
        if not isinstance(piece, Text):
            return None
        texts.append(piece.text)
    return "".join(texts)


def shown(pieces: Pieces) -> str:
    """The text for a reader: unknown parts as written, of a choice the first."""
    return "".join(_shown(piece) for piece in pieces)


def _shown(piece: Piece) -> str:
    match piece:
        case Text():
            return piece.text
        case Hole():
            return piece.written
        case Choice():
            return shown(piece.options[0][0])
        case _:
            return " "


def holes(pieces: Pieces) -> Iterator[Hole]:
    """The unknown parts, those of choices too."""
    for piece in pieces:
        if isinstance(piece, Hole):
            yield piece
        elif isinstance(piece, Choice):
            for option, _ in piece.options:
                yield from holes(option)


def variants(pieces: Pieces) -> list[tuple[Pieces, str]]:
    """All texts without choices that the pieces may be, with their conditions; beyond `MOST_OPTIONS` one hole."""
    if not any(isinstance(piece, Choice) for piece in pieces):
        return [(pieces, "")]
    parts = [_variants(piece) for piece in pieces]
    count = 1
    for part in parts:
        count *= len(part)
    if count > MOST_OPTIONS:
        first = next(piece for piece in pieces if isinstance(piece, Choice))
        return [((_too_many(first),), "")]
    found: list[tuple[Pieces, str]] = []
    for chosen in product(*parts):
        condition = conjunction(condition for _, condition in chosen)
        if possible(condition):
            found.append((tuple(piece for pieces, _ in chosen for piece in pieces), condition))
    return found or [(tuple(piece for part in parts for piece in part[0][0]), "")]


def conjunction(conditions: Iterable[str]) -> str:
    """All conditions in one, each once."""
    return " && ".join(dict.fromkeys(part for condition in conditions if condition for part in condition.split(" && ")))


def possible(condition: str) -> bool:
    """Whether a conjunction does not hold a condition together with its negation."""
    parts = set(condition.split(" && "))
    return not any(negated(part) in parts for part in parts)


def negated(condition: str) -> str:
    """The condition's opposite, in the shell's words."""
    if condition.startswith("! "):
        return condition[2:]
    return f"! {condition}" if condition.startswith("[") or " " not in condition else f"! {{ {condition}; }}"


def _too_many(choice: Choice) -> Hole:
    for piece in choice.options[0][0]:
        if isinstance(piece, (Text, Hole)):
            return Hole("one of many values", shown((piece,)), piece.range, True, None, choice.ref, choice.site)
    source = choice.ref or choice.site
    if source is None:
        raise AssertionError("a choice without a place")
    return Hole("one of many values", "…", source, True, None, choice.ref, choice.site)


def _variants(piece: Piece) -> list[tuple[Pieces, str]]:
    if isinstance(piece, Choice):
        return [
            (inner, conjunction((condition, deeper)))
            for option, condition in piece.options
            for inner, deeper in variants(option)
        ]
    return [((piece,), "")]


def mapped(pieces: Pieces, change: Callable[[str], str | None], at: Range, reason: str, *, quoted: bool) -> Pieces:
    """The pieces of `change(text)`, for each text that they may be; a hole where the text or the result is unknown."""
    results: list[tuple[Pieces, str]] = []
    for option, condition in variants(pieces):
        text = known(option)
        outcome = None if text is None else change(text)
        if outcome is None:
            hole = next(holes(option), None)
            results.append(((Hole(hole.reason if hole else reason, written(at), at, quoted, None, at),), condition))
        else:
            results.append(((Text(outcome, at, "computed", quoted, at),), condition))
    return results[0][0] if len(results) == 1 else chosen(results, at)


def written(at: Range) -> str:
    """The source text of a range, on one line."""
    return " ".join(at.source.text[at.start : at.end].split())


def chosen(options: Sequence[tuple[Pieces, str]], at: Range | None) -> Pieces:
    """The options as one piece: equal texts once, the condition then being either."""
    merged: dict[object, tuple[Pieces, str]] = {}
    for pieces, condition in options:
        key: object = known(pieces)
        key = pieces if key is None else key
        if key in merged:
            first, other = merged[key]
            merged[key] = (first, " || ".join(dict.fromkeys(filter(None, (other, condition)))))
        else:
            merged[key] = (pieces, condition)
    if len(merged) == 1:
        return next(iter(merged.values()))[0]
    return (Choice(tuple(merged.values()), at, at),)


def referred(pieces: Pieces, ref: Range, *, quoted: bool) -> Pieces:
    """A variable's value where `ref` expands it."""
    if len(pieces) == 1 and isinstance(pieces[0], Hole):
        name = written(ref)
        shown_as = pieces[0].written if name.startswith(f"${{{STAND}") else name
        return (pieces[0]._replace(written=shown_as, quoted=quoted, ref=ref),)
    return tuple(_referred(piece, ref, quoted) for piece in pieces)


def _referred(piece: Piece, ref: Range, quoted: bool) -> Piece:
    match piece:
        case Text(text, range_, via, _, _, site):
            return Text(text, range_, "shell-variable" if via == "shell" else via, quoted, ref, site)
        case Hole():
            return piece._replace(quoted=quoted, ref=ref)
        case Choice():
            options = tuple((tuple(_referred(p, ref, quoted) for p in option), text) for option, text in piece.options)
            return Choice(options, ref, piece.site)
        case _:
            return piece


def assigned(pieces: Pieces) -> Pieces:
    """The pieces as a variable keeps them: where each stood in the assignment, and in no word."""
    if sum(len(piece.text) if isinstance(piece, Text) else 10 for piece in pieces) > LONGEST:
        for piece in pieces:
            if isinstance(piece, (Text, Hole)):
                return (Hole("a text that grows too long", "…", piece.range, True),)
    return tuple(_assigned(piece) for piece in pieces)


def _assigned(piece: Piece) -> Piece:
    match piece:
        case Text(_, range_, _, _, None, None):
            return piece._replace(site=range_)
        case Text() | Hole():
            return piece._replace(ref=None, site=piece.ref or piece.site or piece.range)
        case Choice():
            options = tuple((tuple(_assigned(item) for item in option), text) for option, text in piece.options)
            return Choice(options, None, piece.ref or piece.site)
        case _:
            return piece


def joined(words: Iterable[Pieces], separator: Text) -> Pieces:
    """Words with a separator in between, as `"$*"` joins them."""
    found: list[Piece] = []
    for index, word in enumerate(words):
        if index:
            found.append(separator)
        found.extend(word)
    return tuple(found)

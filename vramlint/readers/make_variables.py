"""The variables of a Makefile and what `$(…)` stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from vramlint.readers.excerpts import Excerpt, Piece
from vramlint.readers.templates import Found, is_known, put
from vramlint.text import Document, Place
from vramlint.values import Alternatives, Entry, Option, Scalar, Unknown, Value

MAX_DEPTH = 20
"""Variables within variables that are followed."""
MAX_TEXT = 20_000
"""Characters that a variable may come to."""
MAX_TEXTS = 8
"""Texts that a variable may have."""

_BUILT_IN = {"MAKE": "make", "CURDIR": ".", "PWD": ".", "SHELL": "/bin/sh", "RM": "rm -f"}


class _Text(Struct, frozen=True):
    """One text of a variable."""

    excerpt: Excerpt
    final: bool = False
    """Expanded where it was assigned (`:=`)."""


class Variables:
    """What has been assigned so far: a variable's possible texts, their own variables not put in yet."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._texts: dict[str, tuple[_Text, ...]] = {}
        self._undecided: set[str] = set()
        self._commands: set[str] = set()
        self._exported: set[str] = set()
        self._automatic: dict[str, str] = {}
        self._held: dict[str, Value] = {}

    def assign(self, name: str, how: str, value: Excerpt, *, undecided: bool = False) -> None:
        """An assignment: `=`, `:=`, `?=`, `+=` or `!=`; `undecided` inside of a conditional that may not hold."""
        before = self._texts.get(name, ())
        if how == "!=":
            self._commands.add(name)
        if how == "?=" and before and name not in self._undecided:
            return
        after: tuple[_Text, ...] = (_Text(value),)
        if how.startswith(":"):
            value, held = self.expanded(value)
            self._held.update((entry.key, entry.value) for entry in held)
            after = (_Text(value, final=True),)
        elif how == "+=" and before:
            after = tuple(self._appended(text, value) for text in before)
        if undecided:
            self._undecided.add(name)
            after = (*before, *after)
        else:
            self._undecided.discard(name)
        self._texts[name] = after[:MAX_TEXTS]

    def _appended(self, text: _Text, value: Excerpt) -> _Text:
        if text.final:
            value, held = self.expanded(value)
            self._held.update((entry.key, entry.value) for entry in held)
        end = value.pieces[0].start if value.pieces else 0
        pieces = (*text.excerpt.pieces, Piece(" ", end, end), *value.pieces)
        return _Text(Excerpt.of(self._document, pieces), text.final)

    def export(self, name: str) -> None:
        """Recipes see the variable; all of them for an empty name."""
        self._exported.add(name)

    def exported(self) -> tuple[Entry, ...]:
        """The variables that recipes see in their environment."""
        names = self._texts if "" in self._exported else [name for name in self._texts if name in self._exported]
        return tuple(Entry(name, None, self._whole(name)) for name in names)

    def within(self, settings: Iterable[tuple[str, str, Excerpt]], name: str, first: str, every: str) -> Variables:
        """The variables as the recipes of one target see them."""
        own = Variables(self._document)
        own._texts, own._undecided, own._held = dict(self._texts), set(self._undecided), dict(self._held)
        own._commands, own._exported = set(self._commands), set(self._exported)
        own._automatic = {"@": name, "<": first, "^": every} if "%" not in name else {}
        for setting in settings:
            own.assign(*setting)
        return own

    def is_set(self, name: str) -> bool:
        """Whether the file surely gives the variable a text."""
        return name in self._texts and name not in self._undecided and bool(self._texts[name][0].excerpt.text)

    def text(self, excerpt: Excerpt) -> str:
        """The text of an excerpt after expansion."""
        return self.expanded(excerpt)[0].text

    def known(self, text: str) -> str | None:
        """A text after expansion; None where some of it isn't known."""
        excerpt, _ = self.expanded(Excerpt.of(self._document, [Piece(text, 0, 0)]))
        return excerpt.text if is_known(excerpt) else None

    def expanded(self, excerpt: Excerpt) -> tuple[Excerpt, tuple[Entry, ...]]:
        """An excerpt with all variables put in, and the values that aren't known text."""
        expansion = _Expansion({}, {}, [])
        found = self._expand(excerpt, expansion)
        return found, tuple(Entry(name, None, value) for name, value in expansion.held.items())

    def _expand(self, excerpt: Excerpt, expansion: _Expansion) -> Excerpt:
        parts = ((start, end, self._found(name, expansion)) for start, end, name in _references(excerpt.text))
        return put(excerpt, parts, expansion.held)

    def _found(self, name: str, expansion: _Expansion) -> Found:
        """What a reference stands for."""
        if name not in expansion.cache:
            if name in expansion.active or len(expansion.active) > MAX_DEPTH:
                return Unknown(f"variable {name} of make, which goes round in circles")
            expansion.active.append(name)
            expansion.cache[name] = self._looked_up(name, expansion)
            expansion.active.pop()
        return expansion.cache[name]

    def _looked_up(self, name: str, expansion: _Expansion) -> Found:
        if name == "$":
            return "$"
        if self._automatic.get(name):
            return self._automatic[name]
        if name in self._commands:
            return Unknown(f"variable {name} of make, what a command prints")
        texts = self._texts.get(name)
        if texts is None:
            return _elsewhere(name)
        if len(texts) == 1 and name not in self._undecided:
            found = self._full(texts[0], expansion)
            return found if len(found.text) <= MAX_TEXT else Unknown(f"variable {name} of make, which is very long")
        return self._one_of(name, texts, expansion)

    def _full(self, text: _Text, expansion: _Expansion) -> Excerpt:
        if not text.final:
            return self._expand(text.excerpt, expansion)
        expansion.held.update((key, value) for key, value in self._held.items() if key in text.excerpt.text)
        return text.excerpt

    def _one_of(self, name: str, texts: tuple[_Text, ...], expansion: _Expansion) -> Value:
        expanded = [self._full(text, expansion) for text in texts]
        if len(expanded) == 1 or len(expanded) >= MAX_TEXTS or not all(is_known(text) for text in expanded):
            return Unknown(f"variable {name} of make, which a conditional sets")
        options = {text.text: Option(Scalar(text.text, self._place(text))) for text in expanded}
        several = tuple(options.values())
        return several[0].value if len(several) == 1 else Alternatives(several)

    def _whole(self, name: str) -> Value:
        """A variable's value by itself."""
        found = self._found(name, _Expansion({}, {}, []))
        if isinstance(found, Excerpt):
            if is_known(found):
                return Scalar(found.text, self._place(found))
            return Unknown(f"variable {name} of make")
        return Scalar(found) if isinstance(found, str) else found

    def _place(self, excerpt: Excerpt) -> Place | None:
        if not excerpt.pieces:
            return None
        return excerpt.written(Place(excerpt.document.path, excerpt.document.span(0, len(excerpt.text))))


class _Expansion(Struct, frozen=True):
    """The work on one text."""

    held: dict[str, Value]
    cache: dict[str, Found]
    active: list[str]


def _elsewhere(name: str) -> Found:
    """A name that the file assigns nowhere: make's own, a function, or a variable of the one who calls make."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    function = name.split(None, 1)
    if len(function) > 1 or "," in name:
        return Unknown(f"what make's function {function[0]} gives")
    return Unknown(f"variable {name} of make")


def _references(text: str) -> Iterator[tuple[int, int, str]]:
    """`$(NAME)`, `${NAME}`, `$N` and `$$`: start, end and what stands inside, brackets within brackets counted."""
    at = text.find("$")
    while 0 <= at < len(text) - 1:
        opening = text[at + 1]
        if opening in "({":
            end = _closing(text, at + 1)
            if end < 0:
                return
            yield at, end, text[at + 2 : end - 1]
        else:
            end = at + 2
            yield at, end, opening
        at = text.find("$", end)


def _closing(text: str, start: int) -> int:
    opening, closing = text[start], {"(": ")", "{": "}"}[text[start]]
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == opening) - (text[at] == closing)
        if depth == 0:
            return at + 1
    return -1

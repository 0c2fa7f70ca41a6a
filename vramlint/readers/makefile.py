"""Reads Makefiles: targets with their recipes as the shell gets them, variables put in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct, field

from vramlint.patterns import lazy
from vramlint.readers.excerpts import Excerpt, Piece, joined
from vramlint.readers.make_variables import Variables
from vramlint.text import Document, Place
from vramlint.values import Entry


class Recipe(Struct, frozen=True):
    """What one shell of a target runs."""

    text: Excerpt
    """Without make's prefixes (`@`, `-`, `+`)."""
    condition: str = ""
    """The conditional directives that it stands in, where they can't be decided."""
    held: tuple[Entry, ...] = ()
    """Values in the text that aren't known text, as `readers.templates.put` holds them back."""


class Target(Struct, frozen=True):
    """One rule of a Makefile."""

    name: str
    place: Place
    recipes: tuple[Recipe, ...]
    environment: tuple[Entry, ...] = ()
    """Exported variables."""


class Makefile(Struct, frozen=True):
    """What a Makefile can be asked to make. Included files are not looked into."""

    path: str
    targets: tuple[Target, ...]


def read_makefile(document: Document) -> Makefile:
    """The targets of a Makefile, as GNU make reads it; anything that isn't make's is passed over."""
    reader = _Reader(document)
    for line in _lines(document):
        reader.take(line)
    return Makefile(document.path, tuple(reader.targets()))


class _Line(Struct, frozen=True):
    """A logical line."""

    start: int
    end: int
    text: str
    recipe: bool


_ASSIGNMENT = lazy(
    r"\s*(?P<before>(?:(?:export|override|private)\s+)*)(?P<name>[^\s:#=+?!$()]+)\s*(?P<how>\?=|::?:?=|\+=|!=|=)\s*"
)
_DEFINE = lazy(r"\s*(?:(?:export|override)\s+)*define\s+(?P<name>[^\s:=+?!]+)")
_EXPORT = lazy(r"\s*export(?:\s+(?P<names>[^=:]*))?$")
_CONDITION = lazy(r"\s*(?P<word>ifeq|ifneq|ifdef|ifndef|else|endif)\b\s*(?P<rest>.*)", re.DOTALL)
_SIDES = lazy(r"\((?P<a>.*),(?P<b>.*)\)|(['\"])(?P<c>.*?)\3\s+(['\"])(?P<d>.*?)\5")
_RULE = lazy(r"(?P<names>(?:\$\([^)]*\)|\$\{[^}]*\}|[^:=#$])+?)\s*&?::?(?!=)(?P<rest>.*)", re.DOTALL)
_PREFIX = lazy(r"[ \t]*[@+-][ \t@+-]*")
_COMMENT = lazy(r"(?<!\\)#.*")


def _lines(document: Document) -> Iterator[_Line]:
    """The file's logical lines: those that end in a backslash go on in the next."""
    text = document.text
    at = 0
    while at < len(text):
        start = at
        while True:
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            at = end + 1
            stripped = text[start:end].rstrip("\r")
            if (len(stripped) - len(stripped.rstrip("\\"))) % 2 == 0 or at >= len(text):
                break
        yield _Line(start, end, text[start:end], text.startswith("\t", start))


class _Open(Struct):
    """A target whose recipes are still being read."""

    name: str
    place: Place
    first: str
    every: str
    settings: list[tuple[str, str, Excerpt]] = field(default_factory=list)
    lines: list[tuple[Excerpt, str]] = field(default_factory=list)


class _Reader:
    """Goes through the logical lines."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._variables = Variables(document)
        self._targets: dict[str, _Open] = {}
        self._current: list[_Open] = []
        self._conditions: list[tuple[bool | None, str]] = []
        self._define: tuple[str, int] | None = None
        self._one_shell = False

    def take(self, line: _Line) -> None:
        """One logical line."""
        if self._define is not None:
            self._within_define(line)
            return
        condition = _CONDITION.match(line.text) if not line.recipe or not self._current else None
        if condition:
            self._conditional(condition["word"], condition["rest"].strip())
        elif any(taken is False for taken, _ in self._conditions):
            return
        elif line.recipe and self._current:
            self._recipe(line.start, line.end)
        else:
            self._directive(line)

    def targets(self) -> Iterator[Target]:
        """The rules that have recipes, once the whole file is read."""
        for target in self._targets.values():
            variables = self._variables.within(target.settings, target.name, target.first, target.every)
            recipes = tuple(
                recipe for text, condition in target.lines for recipe in self._expanded(variables, text, condition)
            )
            if self._one_shell and recipes:
                held = tuple(dict.fromkeys(entry for recipe in recipes for entry in recipe.held))
                recipes = (Recipe(joined(self._document, (recipe.text for recipe in recipes)), "", held),)
            if recipes:
                yield Target(target.name, target.place, recipes, variables.exported())

    def _expanded(self, variables: Variables, text: Excerpt, condition: str) -> Iterator[Recipe]:
        text, held = variables.expanded(text)
        prefix = _PREFIX.match(text.text)
        if prefix:
            text = Excerpt.of(self._document, text.cut(prefix.end(), len(text.text)))
        if text.text.strip():
            yield Recipe(text, condition, held)

    def _recipe(self, start: int, end: int) -> None:
        text = self._document.text
        pieces: list[Piece] = []
        for at, until in _physical(text, start, end):
            first = at + text.startswith("\t", at, until)
            pieces.append(Piece(text[first:until], first, until))
        undecided = " and ".join(said for taken, said in self._conditions if taken is None)
        for target in self._current:
            target.lines.append((Excerpt.of(self._document, pieces), undecided))

    def _directive(self, line: _Line) -> None:
        define = _DEFINE.match(line.text)
        assignment = _ASSIGNMENT.match(line.text)
        export = _EXPORT.match(_COMMENT.sub("", line.text).rstrip())
        if define:
            self._define = (define["name"], line.end + 1)
        elif assignment:
            self._current = []
            undecided = any(taken is None for taken, _ in self._conditions)
            value = self._value(line.start + assignment.end(), line.end)
            self._variables.assign(assignment["name"], assignment["how"], value, undecided=undecided)
            if "export" in assignment["before"]:
                self._variables.export(assignment["name"])
        elif export:
            names = (export["names"] or "").split()
            for name in names or [""]:
                self._variables.export(name)
        else:
            self._rule(line)

    def _rule(self, line: _Line) -> None:
        rule = _RULE.match(line.text)
        if rule is None:
            return
        start = line.start + rule.start("rest")
        setting = _ASSIGNMENT.match(rule["rest"])
        names = self._variables.text(self._value(line.start, line.start + rule.end("names"))).split()
        if ".ONESHELL" in names:
            self._one_shell = True
        place = Place(self._document.path, self._document.span(line.start, line.start + len(rule["names"].rstrip())))
        needed, semicolon, inline = rule["rest"].partition(";")
        first = self._variables.text(self._value(start, start + len(needed))).split()
        own = [name for name in names if not name.startswith(".") or "/" in name]
        targets = [self._target(name, place, [] if setting else first) for name in own]
        if setting:
            value = self._value(start + setting.end(), line.end)
            for target in targets:
                target.settings.append((setting["name"], setting["how"], value))
            return
        self._current = targets
        if semicolon and inline.strip():
            self._recipe(start + len(needed) + 1, line.end)

    def _target(self, name: str, place: Place, needed: list[str]) -> _Open:
        target = self._targets.setdefault(name, _Open(name, place, "", ""))
        if needed and not target.every:
            target.first, target.every = needed[0], " ".join(needed)
        return target

    def _within_define(self, line: _Line) -> None:
        if line.text.strip().split("#")[0].strip() != "endef" or self._define is None:
            return
        name, start = self._define
        end = max(line.start - 1, start)
        piece = Piece(self._document.text[start:end], start, end)
        undecided = any(taken is None for taken, _ in self._conditions)
        self._variables.assign(name, "=", Excerpt.of(self._document, [piece]), undecided=undecided)
        self._define = None

    def _conditional(self, word: str, rest: str) -> None:
        if word == "endif":
            del self._conditions[-1:]
        elif word != "else":
            self._conditions.append((self._decided(word, rest), f"{word} {rest}"))
        elif self._conditions:
            taken, said = self._conditions.pop()
            inner = _CONDITION.match(rest)
            if inner and taken is False:
                self._conditions.append((self._decided(inner["word"], inner["rest"].strip()), rest))
            else:
                self._conditions.append((None if taken is None else not taken, f"not {said}"))

    def _decided(self, word: str, rest: str) -> bool | None:
        rest = _COMMENT.sub("", rest).strip()
        if word in ("ifdef", "ifndef"):
            return (word == "ifdef") if self._variables.is_set(rest) else None
        sides = _SIDES.fullmatch(rest)
        if sides is None:
            return None
        pair = (sides["a"], sides["b"]) if sides["a"] is not None else (sides["c"], sides["d"])
        left, right = (self._variables.known(side.strip()) for side in pair)
        if left is None or right is None:
            return None
        return (left == right) == (word == "ifeq")

    def _value(self, start: int, end: int) -> Excerpt:
        """The text of a logical line from `start`, comment and line breaks taken out."""
        text = self._document.text
        comment = _COMMENT.search(text, start, end)
        end = comment.start() if comment else end
        pieces: list[Piece] = []
        for at, until in _physical(text, start, end):
            line = text[at:until]
            kept = line.rstrip("\r\n").removesuffix("\\").rstrip()
            skipped = len(kept) - len(kept.lstrip()) if pieces else 0
            pieces += [Piece(" ", at, at)] if pieces else []
            pieces.append(Piece(kept[skipped:], at + skipped, at + len(kept)))
        return Excerpt.of(self._document, pieces)


def _physical(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of the lines between two offsets, line ends included."""
    while start < end:
        newline = text.find("\n", start, end)
        until = end if newline < 0 else newline + 1
        yield start, until
        start = until

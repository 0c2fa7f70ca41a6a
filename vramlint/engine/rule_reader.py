"""Typed access to the TOML of a rule, with errors that name file, line and key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from vramlint.catalog.nearest import nearest
from vramlint.engine import template
from vramlint.engine.template import Template
from vramlint.patterns import lazy

Path = tuple[str | int, ...]
"""Keys from the top of the file, tables of an array by their number."""
LineOf = Callable[[Path], int]
"""The line of a key, 0 where it is not known."""

_LINE = lazy(r"[^\n]*[^\n.]")


class RuleError(ValueError):
    """A rule file that is not of the form; one line that names file, line, key and what was meant."""


class Source(Struct, frozen=True):
    """The file that a rule is read from."""

    path: str
    line_of: LineOf

    def error(self, at: Path, message: str) -> RuleError:
        """The error about the key at a path."""
        line = self.line_of(at)
        where = f"{self.path}:{line}" if line else self.path
        return RuleError(f"{where}: {_spelled(at)}: {message}")


class RuleReader:
    """One table of the file; a key that is not among `keys` is an error."""

    def __init__(self, table: Mapping[str, object], source: Source, keys: Iterable[str], path: Path = ()) -> None:
        self._table, self._source, self._path = table, source, path
        allowed = tuple(keys)
        for key in table:
            if key not in allowed:
                raise self.error(key, f"unknown key{did_you_mean(key, allowed)}")

    def error(self, key: str, message: str) -> RuleError:
        """The error about one of the table's keys."""
        return self._source.error((*self._path, key), message)

    def has(self, key: str) -> bool:
        """Whether the table has the key."""
        return key in self._table

    def text(self, key: str, default: str | None = None) -> str:
        """A string that is not empty; without a default the key has to be there."""
        value = self._table.get(key)
        if value is None:
            if default is None:
                raise self.error(key, "is missing")
            return default
        if not isinstance(value, str):
            raise self.error(key, "is not a string")
        if not value.strip():
            raise self.error(key, "is empty")
        return value

    def line(self, key: str, default: str | None = None) -> str:
        """A string of one line without a full stop."""
        value = self.text(key, default)
        if value and not _LINE.fullmatch(value):
            raise self.error(key, "is not one line without a full stop")
        return value

    def flag(self, key: str, default: bool | None = False) -> bool:
        """True or false; without a default the key has to be there."""
        value = self._table.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        if not isinstance(value, bool):
            raise self.error(key, "is not true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, none of them empty."""
        value = self._table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.error(key, "is not a list of strings")
        return tuple(value)

    def words(self, key: str, known: Iterable[str], what: str) -> tuple[str, ...]:
        """A list of words that all exist."""
        given, allowed = self.texts(key), tuple(known)
        for word in given:
            if word not in allowed:
                raise self.error(key, f"unknown {what} {word!r}{did_you_mean(word, allowed)}")
        return given

    def table(self, key: str, keys: Iterable[str]) -> RuleReader:
        """A table inside this one, empty where it is not there."""
        value = self._table.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "is not a table")
        return RuleReader(value, self._source, keys, (*self._path, key))

    def tables(self, key: str, keys: Iterable[str]) -> tuple[RuleReader, ...]:
        """An array of tables."""
        value = self._table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, "is not a list of tables")
        at = (*self._path, key)
        return tuple(RuleReader(item, self._source, keys, (*at, number)) for number, item in enumerate(value))

    def items(self, key: str, kinds: tuple[type, ...]) -> tuple[tuple[str, object], ...]:
        """The pairs of a table whose keys are free."""
        value = self._table.get(key, {})
        if not isinstance(value, dict) or not all(_is_of(item, kinds) for item in value.values()):
            raise self.error(key, f"is not a table of {' or '.join(_KINDS[kind] for kind in kinds)}")
        return tuple(value.items())

    def template(self, key: str, text: str) -> Template:
        """The checked template of a key's text."""
        try:
            return template.parse(text)
        except template.TemplateError as error:
            raise self.error(key, str(error)) from None


def _is_of(item: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of one of the kinds; true is no number."""
    return isinstance(item, kinds) and (bool in kinds or not isinstance(item, bool))


_KINDS = {str: "strings", int: "whole numbers", float: "numbers", bool: "true and false"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'summary'?`, or nothing where no known word resembles it."""
    close = nearest(word, known, count=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def _spelled(path: Path) -> str:
    """`examples.fail[0].files` of a path."""
    words = (
        f"[{part}]" if isinstance(part, int) else f".{part if part.isprintable() else repr(part)}" for part in path
    )
    return "".join(words).removeprefix(".")

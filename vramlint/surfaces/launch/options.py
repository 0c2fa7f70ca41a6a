"""The command line of a framework's program as the table that its parser makes: `--a.b 1`, `--a.b=1`, `a.b=1`."""

from __future__ import annotations

from itertools import takewhile

from vramlint.surfaces.launch.flags import arguments_table
from vramlint.surfaces.launch.scalars import typed
from vramlint.surfaces.launch.words import Word, after
from vramlint.surfaces.overlay import overlaid
from vramlint.text import Place
from vramlint.values import Entry, Invocation, Items, Scalar, Table, Unknown, Value


def options_table(invocation: Invocation, *, overrides: bool = True) -> Table:
    """All options and overrides of a command line, nested by their dots; the last of equal ones wins.

    Options are spelled with underscores. `key=value` words are Hydra's and OmegaConf's overrides; `+key` and `++key`
    add, so that their names have no place to be checked at, `~key` removes (`removed_paths`). `[a,b]` is a list.

    Args:
        invocation: the command line.
        overrides: `key=value` words are overrides; else they are values of the options before them.
    """
    table = Table((), invocation.place)
    for entry in arguments_table(invocation):
        given = _listed(_without_overrides(entry.value) if overrides else entry.value)
        table = overlaid(table, nested(entry.key, entry.key_place, given))
    for value in invocation.arguments if overrides else ():
        at = value.place or invocation.place
        word = Word(value, at) if at is not None else None
        text = (word.text or word.prefix) if word else ""
        head, equals, _ = text.partition("=")
        name = head.lstrip("+")
        if word is None or not equals or not name or text.startswith(("-", "~")) or not _is_path(name):
            continue
        given = _listed(typed(after(word, len(head) + 1)))
        table = overlaid(table, nested(name, word.place if name == head else None, given))
    return table


def removed_paths(invocation: Invocation) -> tuple[str, ...]:
    """The keys that `~key` words take out of the configuration, with their dots (OmegaConf's, Hydra's, torchtune's)."""
    texts = [value.value for value in invocation.arguments if isinstance(value, Scalar)]
    heads = [text[1:].partition("=")[0] for text in texts if isinstance(text, str) and text.startswith("~")]
    return tuple([head for head in heads if _is_path(head)])


def _without_overrides(value: Value) -> Value:
    """The words of an option up to the first `a.b=1`, which is an override of its own."""
    if not isinstance(value, Items):
        return value
    words = tuple(takewhile(lambda item: not _is_override(item), value.values))
    return words[0] if len(words) == 1 else Items(words, value.place) if words else value


def _is_override(value: Value) -> bool:
    text = value.value if isinstance(value, Scalar) else value.prefix if isinstance(value, Unknown) else None
    head, equals, _ = text.partition("=") if isinstance(text, str) else ("", "", "")
    return (bool(equals) or head.startswith("~")) and _is_path(head.lstrip("+~"))


def nested(path: str, place: Place | None, value: Value) -> Table:
    """A table with one value under a dotted path."""
    head, _, rest = path.partition(".")
    inner = nested(rest, place, value) if rest else value
    return Table((Entry(head, place, inner),), place)


def _is_path(name: str) -> bool:
    return all(
        part and (part.isidentifier() or part.isalnum()) for part in name.replace("-", "_").replace("@", "").split(".")
    )


def _listed(value: Value) -> Value:
    """`[a,b]` as a list."""
    if not (isinstance(value, Scalar) and isinstance(value.value, str)):
        return value
    text = value.value.strip()
    if not (text.startswith("[") and text.endswith("]")) or any(mark in text[1:-1] for mark in "[]{}"):
        return value
    parts = [part.strip().strip("\"'") for part in text[1:-1].split(",")]
    return Items(tuple([Scalar(part, value.place, value.via) for part in parts if part]), value.place)

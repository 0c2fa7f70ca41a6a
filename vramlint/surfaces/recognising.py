"""Which vocabulary a data file is written in, how sure that is, and by what."""

from __future__ import annotations

from vramlint.catalog.marks import MARKS, Marks
from vramlint.facts import Recognised
from vramlint.surfaces.kinds import kind_of_table
from vramlint.values import Items, Table

_OWN, _SHARED, _PATH = 2.0, 0.5, 1.0
"""What a key that only one vocabulary has, one that several have, and a word of the path count."""
_LEAST = 2.0
"""Less is no evidence: one own key, or four shared ones."""
_SHOWN = 3
"""Keys that the reason names."""


def recognise(path: str, table: Table, forced: str = "") -> Recognised | None:
    """The vocabulary of a file; None where it is no training configuration.

    Args:
        path: the file, of which words hint.
        table: its root.
        forced: the vocabulary that the settings say.
    """
    if forced:
        return Recognised(forced, 1.0, "the settings say so")
    found = max((_weighed(path, table, marks) for marks in MARKS), key=lambda item: item[0])
    evidence, recognised = found
    plain = kind_of_table(path, table)
    if plain is not None and (recognised is None or evidence < _LEAST + _OWN or plain in _SURE):
        own = _PLAIN.get(plain, ())
        keys = [entry.key for entry in table if not own or entry.key in own][:_SHOWN]
        return recognised if recognised and plain not in _SURE else Recognised(plain, _sure(4.0), _by(keys))
    return recognised


_SURE = ("accelerate-config", "model-config", "deepspeed-json")
"""Kinds that are told by keys that nothing else has together."""
_PLAIN = {"accelerate-config": ("compute_environment", "distributed_type", "mixed_precision", "deepspeed_config")}


def _weighed(path: str, table: Table, marks: Marks) -> tuple[float, Recognised | None]:
    own = [key for key in marks.own if _has(table, key)]
    shared = [key for key in marks.shared if _has(table, key)]
    if any(_has(table, key) for key in marks.never):
        return 0.0, None
    words = [word for word in marks.paths if word in f"/{path.lower()}"]
    keys = _OWN * len(own) + _SHARED * len(shared)
    if keys < _LEAST and not (words and keys >= _LEAST / 2):
        return 0.0, None
    evidence = keys + _PATH * len(words[:1])
    return evidence, Recognised(marks.kind, _sure(evidence), _by([*own, *shared][:_SHOWN], words[:1]))


def _has(table: Table, key: str) -> bool:
    """Whether a key is there: dotted inside of tables, `*` for any table, of a list the first element."""
    head, _, rest = key.partition(".")
    if head == "*":
        return any(isinstance(entry.value, Table) and _has(entry.value, rest) for entry in table)
    entry = table.entry(head)
    if entry is None:
        return table.entry(key) is not None
    if not rest:
        return True
    value = entry.value.values[0] if isinstance(entry.value, Items) and entry.value.values else entry.value
    return isinstance(value, Table) and _has(value, rest)


def _sure(evidence: float) -> float:
    return round(evidence / (evidence + 0.5), 2)


def _by(keys: list[str], words: list[str] | None = None) -> str:
    named = ", ".join(f"`{key}`" for key in keys)
    return f"by its keys {named}" + (f" and its path ({words[0].strip('/')})" if words else "")

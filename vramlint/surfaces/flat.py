"""Facts of a data file, key by key."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from vramlint.facts import Fact, Remark
from vramlint.patterns import lazy
from vramlint.surfaces.convert import CONVERTERS
from vramlint.surfaces.draft import draw
from vramlint.surfaces.keys import rows
from vramlint.values import Scalar, Table, Value

_NUMBER = lazy(r"[-+]?(\d[\d_]*)(\.\d*)?([eE][-+]?\d+)?$")
AsRead = Callable[[str, str, Value], Value]
NUMERIC = ("count", "elements", "bound", "number")


def stated_by(
    table: Table,
    vocabulary: str,
    *,
    via: str = "config-file",
    quoted_numbers: bool = False,
    as_read: AsRead | None = None,
) -> Iterator[Fact | Remark]:
    """What the keys of one vocabulary say in `table`; the first spelling of a fact wins.

    Args:
        table: the root of the file, or a dict in a script.
        vocabulary: a vocabulary of `keys`.
        via: by which road the values came; empty leaves what each value says of itself.
        as_read: what the reader of the file makes of a value, given the key and its converter's name.
        quoted_numbers: take strings that spell numbers as numbers, as parsers built on argparse do.
    """
    said: set[str] = set()
    for row in rows(vocabulary).values():
        entry = table.entry(*row.key.split("."))
        if entry is None or row.fact in said:
            continue
        value = lenient(entry.value) if quoted_numbers and row.converter in NUMERIC else entry.value
        value = as_read(row.key, row.converter, value) if as_read is not None else value
        drawn = draw(row.fact, value, CONVERTERS[row.converter], row.key, entry.key_place)
        if isinstance(drawn, Remark):
            yield replace(drawn, vocabulary=vocabulary)
        elif drawn is not None:
            said.add(row.fact)
            yield replace(drawn, via=via) if via and drawn.via != "runtime" else drawn


def lenient(value: Value) -> Value:
    """A string that spells a number as that number."""
    if isinstance(value, Scalar) and isinstance(value.value, str) and _NUMBER.match(value.value):
        number = float(value.value.replace("_", ""))
        return replace(value, value=int(number) if number.is_integer() else number)
    return value

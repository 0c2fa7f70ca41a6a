"""Values that are filled in before the framework sees them: `${MICRO_BATCH}`, `{{ model }}`, `???`, `<your model>`."""

from __future__ import annotations

import re

from msgspec.structs import replace

from vramlint.patterns import lazy
from vramlint.values import Items, Scalar, Table, Unknown, Value

_WHOLE = lazy(r"\$\{?[A-Za-z_]\w*\}?|\?\?\?|<[^<>]+>|\{\{.*\}\}|%\(\w+\)s|@\w+@", re.DOTALL)
"""envsubst's and shells' variables, OmegaConf's mark of a missing value, people's angle brackets, Jinja's braces,
Python's and CMake's templates, where nothing else stands in the value."""


def with_placeholders(table: Table) -> Table:
    """The table with every such value as one that only run time knows, at its place."""
    entries = tuple([replace(entry, value=_seen(entry.value)) for entry in table])
    return replace(table, entries=entries)


def _seen(value: Value) -> Value:
    match value:
        case Scalar(value=str(text)) if _WHOLE.fullmatch(text.strip()):
            return Unknown(f"placeholder {text.strip()}, filled in before the file is read", value.place)
        case Table():
            return with_placeholders(value)
        case Items(values=values) if any(isinstance(item, Scalar | Table) for item in values):
            return replace(value, values=tuple([_seen(item) for item in values]))
    return value

"""Files of settings that a command line names."""

from __future__ import annotations

from vramlint.patterns import lazy
from vramlint.readers.python.datafiles import find, form_of_path, read_tree
from vramlint.readers.python.machine import Machine
from vramlint.readers.python.objects import Given, Mapping, Object, Slot
from vramlint.text import Document, Place
from vramlint.values import Scalar

_MOST_NESTED = 6

_LINE = lazy(r"[ \t]*(?:--)?(?P<key>[A-Za-z_][\w.-]*)[ \t]*(?:[:=][ \t]*|[ \t]+|$)(?P<value>[^\r\n]*?)[ \t]*$")


def settings_file(machine: Machine, path: Object) -> Mapping | None:
    """The keys of a YAML, JSON or TOML file, or of one with lines `key = value`; None where there is none."""
    if not isinstance(path, Scalar) or not isinstance(path.value, str):
        return None
    document = find(machine, path.value)
    if document is None:
        return None
    found = read_tree(document, form_of_path(path.value))
    return found if isinstance(found, Mapping) else _lines(document)


def _lines(document: Document) -> Mapping:
    """`key = value`, `key: value`, `--key value`, one a line, as configargparse reads its own form."""
    state: dict[str, Slot] = {}
    for number, start in enumerate(document.line_starts[:10_000], 1):
        text = document.line(number)
        found = _LINE.match(text) if text[:1] not in ("#", ";", "[") else None
        if found is None:
            continue
        at = Place(document.path, document.span(start + found.start("key"), start + found.end("key")))
        value_at = Place(document.path, document.span(start + found.start("value"), start + found.end("value")))
        value = Scalar(found["value"] or "true", value_at, "config-file")
        state[found["key"]] = Slot(at, value)
    return Mapping({**state})


def flattened(table: Mapping, prefix: str = "") -> dict[str, Given]:
    """The leaves of nested tables by dotted path; the tables themselves too, for fields that hold a dict."""
    found: dict[str, Given] = {}
    for key, slot in table.slots():
        path = f"{prefix}{key}"
        found[path] = Given(path, slot.value, slot.key_place)
        if isinstance(slot.value, Mapping) and prefix.count(".") < _MOST_NESTED:
            found |= flattened(slot.value, f"{path}.")
    return found

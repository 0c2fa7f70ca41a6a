"""The allocator's settings as edits: the text that says them already, or a variable before the command that starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vramlint.facts import Fact, Origin
from vramlint.text import Document, Edit, Place

VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"
"""The name that every torch reads: PYTORCH_ALLOC_CONF, which comes first, is of 2.9 and later (c10/core/
AllocatorConfig.cpp)."""
_SCRIPTS = (".sh", ".bash", ".zsh", ".slurm", ".sbatch", ".job")


def write_settings(
    setting: str, facts: Sequence[Fact], documents: Mapping[str, Document]
) -> tuple[str, tuple[Edit, ...]]:
    """What is to be set, `PYTORCH_CUDA_ALLOC_CONF=…`, and the edits, none where no file has a place for it.

    Args:
        setting: one setting, `expandable_segments:True`.
        facts: what the run's files say.
        documents: the files by path.
    """
    by_name = {fact.name: fact for fact in facts}
    said = by_name.get("allocator_settings")
    if said is not None and isinstance(said.value, str) and said.value:
        together = _joined(said.value, setting)
        return f"{said.key or VARIABLE}={together}", _replaced(said, said.value, together, documents)
    edits = _exported(by_name.get("launcher") or by_name.get("entry"), setting, documents) if said is None else ()
    return f"{VARIABLE}={setting}", edits


def _joined(before: str, setting: str) -> str:
    """The settings so far with one of them new."""
    name = setting.partition(":")[0]
    kept = [part.strip() for part in before.split(",") if part.strip() and part.partition(":")[0].strip() != name]
    return ",".join((setting, *kept))


def _replaced(fact: Fact, before: str, after: str, documents: Mapping[str, Document]) -> tuple[Edit, ...]:
    place = fact.place
    document = documents.get(place.path) if place else None
    if place is None or document is None or fact.origin is not Origin.WRITTEN:
        return ()
    line = document.offset(place.span.line, 1)
    end = document.offset(place.span.end_line, place.span.end_column)
    end = document.text.find("\n", end) if "\n" in document.text[end:] else len(document.text)
    text = document.text[line:end]
    if text.count(before) != 1:
        return ()
    start = line + text.index(before)
    return (Edit(Place(place.path, document.span(start, start + len(before))), after),)


def _exported(fact: Fact | None, setting: str, documents: Mapping[str, Document]) -> tuple[Edit, ...]:
    """A line of its own before the command of a shell script."""
    place = fact.place if fact is not None else None
    document = documents.get(place.path) if place else None
    if place is None or document is None or not place.path.endswith(_SCRIPTS):
        return ()
    number = place.span.line
    while number > 1 and document.line(number - 1).rstrip().endswith("\\"):
        number -= 1
    line = document.line(number)
    indent = line[: len(line) - len(line.lstrip())]
    at = document.offset(number, 1)
    text = f"{indent}export {VARIABLE}={setting}{document.line_end(number)}"
    return (Edit(Place(place.path, document.span(at, at)), text),)

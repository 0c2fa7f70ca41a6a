"""The way back: changed facts as text edits in the vocabulary of the files that say them.

A fact that a file writes as a literal is replaced there; one that no file writes is added where the run's files have
a place for its key. What is neither (a model loaded by hand, an adapter that needs code), and what its key cannot
hold, cannot be written: the answer is then None.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from vramlint.facts import Fact, FactValue, Origin
from vramlint.surfaces.holding import Holder, holder_of
from vramlint.surfaces.keys import VOCABULARIES, KeyRow, all_rows
from vramlint.surfaces.literals import JSON, PYTHON, SHELL, YAML, literal, value_at
from vramlint.surfaces.members import form_of
from vramlint.surfaces.several import SEVERAL
from vramlint.surfaces.spelling import Written as Held
from vramlint.surfaces.spelling import reads, spelled
from vramlint.text import Document, Edit, Place

_ROADS = (
    "literal",
    "config-file",
    "module-constant",
    "function-default",
    "argparse-default",
    "dataclass-default",
    "click-default",
    "cli",
    "shell-variable",
    "code",
)
"""How values come that a literal may say; a fact that a call states by itself has the call's place."""
_SECTION = "fsdp_config."
"""What facts have before the keys of FSDP's options."""
_ONLY_REPLACED = frozenset((("from-pretrained", "quantization_bits"),))
"""Keys that transformers 5 takes no longer."""


class Written(NamedTuple):
    """Changes as the files would say them: `optim="adamw_bnb_8bit"`, and the edits that make it so."""

    description: str
    edits: tuple[Edit, ...]


def write(
    changes: Mapping[str, FactValue],
    facts: Sequence[Fact],
    anchor: Place | None,
    documents: Mapping[str, Document],
) -> Written | None:
    """Edits that give the facts their new values, all or none.

    Args:
        changes: fact names to new values.
        facts: what the run's files say.
        anchor: the call that makes the run.
        documents: the files by path.
    """
    run = _Run(changes, {fact.name: fact for fact in facts}, facts, anchor, documents)
    words: list[str] = []
    edits: list[Edit] = []
    for name in changes:
        written = _written(run, name)
        if written is None:
            return None
        words += [written.description] if written.description not in words else []
        edits += written.edits
    merged = _merged(edits)
    return Written(", ".join(words), merged) if words and merged is not None else None


class _Run(NamedTuple):
    changes: Mapping[str, FactValue]
    by_name: Mapping[str, Fact]
    facts: Sequence[Fact]
    anchor: Place | None
    documents: Mapping[str, Document]

    def holder(self, vocabulary: str) -> Holder | None:
        """Where keys of a vocabulary can be written."""
        return holder_of(vocabulary, self.facts, self.anchor, self.documents)


def _written(run: _Run, name: str) -> Written | None:
    fact = run.by_name.get(name)
    said = fact is not None and fact.origin is Origin.WRITTEN and fact.via != "library"
    if fact is not None and (name in SEVERAL or said):
        written = _by_several(run, fact) if name in SEVERAL else None
        if written is None and said:
            written = _replaced(run, fact)
        if written is not None or said:
            return written
    if fact is not None and fact.origin is Origin.UNKNOWN:
        return None
    return _added(run, name, fact.key if fact is not None else "")


def _by_several(run: _Run, fact: Fact) -> Written | None:
    """A fact that a vocabulary says by several keys together."""
    for vocabulary, spell in SEVERAL[fact.name].items():
        if not any(row.key == fact.key and row.fact == fact.name for row in all_rows(vocabulary)):
            continue
        holder = run.holder(vocabulary)
        keys = spell(run.changes[fact.name], fact, holder) if holder is not None else None
        if holder is None or keys is None:
            continue
        edits = [holder.put(key, value) for key, value in keys.items()]
        made = [edit for edit in edits if edit is not None]
        if len(made) == len(edits):
            words = [_say_added(key, value, holder.form) for key, value in keys.items()]
            return Written(", ".join(words), tuple(made))
    return None


def _replaced(run: _Run, fact: Fact) -> Written | None:
    """Replace the literal where it is written."""
    place = fact.place
    document = run.documents.get(place.path) if place else None
    if place is None or document is None or fact.via not in _ROADS or len(fact.candidates) > 1:
        return None
    form = _form(place.path)
    old = document.slice(place.span)
    held = value_at(old, form)
    now = {item.name: item.value for item in run.facts if item.place == place and item.key == fact.key}
    for rows in _rows_of(fact):
        if held is None or not any(row.fact == fact.name and reads(row, held, fact.value) for row in rows):
            continue
        wanted = {row.fact: run.changes[row.fact] for row in rows if row.fact in run.changes}
        if all(reads(row, held, wanted[row.fact]) for row in rows if row.fact in wanted):
            return Written(_say(fact.key, old, form), ())
        value = spelled(rows, wanted, now)
        if value is None:
            return None
        text = literal(value, form, old)
        text = f"{old} {text}" if form == SHELL and old.startswith("--") else text
        return Written(_say(fact.key, text, form), (Edit(place, text),))
    return None


def _rows_of(fact: Fact) -> Iterator[tuple[KeyRow, ...]]:
    """The rows of the key that says a fact, of each vocabulary that has it."""
    for vocabulary in VOCABULARIES:
        key = fact.key.removeprefix(_SECTION) if vocabulary == "fsdp" else fact.key
        rows = tuple([row for row in all_rows(vocabulary) if row.key == key])
        if any(row.fact == fact.name for row in rows):
            yield rows


def _added(run: _Run, name: str, key: str) -> Written | None:
    """Add the key where the run's files have a place for it, beside the one that would say it by default."""
    order = sorted(VOCABULARIES, key=lambda vocabulary: not key or not _has(vocabulary, key))
    for vocabulary in order:
        rows = [row for row in all_rows(vocabulary) if row.fact == name]
        holder = run.holder(vocabulary) if rows and (vocabulary, name) not in _ONLY_REPLACED else None
        if holder is None:
            continue
        for row in rows:
            others = [other for other in all_rows(vocabulary) if other.key == row.key]
            wanted = {other.fact: run.changes[other.fact] for other in others if other.fact in run.changes}
            value: Held = spelled(others, wanted, {}) if holder.takes(row.key) else None
            edit = holder.put(row.key, value) if value is not None else None
            if edit is not None:
                return Written(_say_added(row.key, value, holder.form), (edit,))
    return None


def _has(vocabulary: str, key: str) -> bool:
    return any(row.key == key for row in all_rows(vocabulary))


def _form(path: str) -> str:
    return form_of(path) or (PYTHON if path.endswith((".py", ".ipynb")) else SHELL)


def _say(key: str, text: str, form: str) -> str:
    name = key.rpartition(".")[2]
    if form == SHELL:
        return text if text.startswith("--") else f"--{name} {text}"
    return {PYTHON: f"{name}={text}", JSON: f'"{name}": {text}', YAML: f"{name}: {text}"}[form]


def _say_added(key: str, value: Held, form: str) -> str:
    """A key that is new, with the table that holds it."""
    section, _, last = key.rpartition(".")
    outer = section.rpartition(".")[2]
    text = literal(value, form)
    if form == SHELL or not outer:
        return _say(key, text, form)
    inner = f"{{{last}: {text}}}" if form == YAML else f"{{{json.dumps(last)}: {text}}}"
    return _say(outer, inner, form)


def _merged(edits: Sequence[Edit]) -> tuple[Edit, ...] | None:
    """Insertions at one and the same place joined into one edit, in order; None where replacements contradict."""
    joined: dict[Place, str] = {}
    for edit in edits:
        span = edit.place.span
        before = joined.get(edit.place, "")
        if (span.line, span.column) != (span.end_line, span.end_column):
            if before and before != edit.replacement:
                return None
            joined[edit.place] = edit.replacement
            continue
        # into an empty call, where nothing before the keyword asks for a comma
        comma = (
            ", "
            if before and not before.rstrip(" ").endswith((",", "\n")) and edit.replacement[:1] not in ",\n "
            else ""
        )
        joined[edit.place] = f"{before}{comma}{edit.replacement}"
    return tuple(Edit(place, text) for place, text in joined.items())

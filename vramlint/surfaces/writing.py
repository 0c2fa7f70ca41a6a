"""The way back: changed facts as text edits in the vocabulary of the files that say them.

A fact that a file writes as a literal is replaced there; one that no file writes is added where the run's files have
a place for its key. What is neither (a model loaded by hand, an adapter that needs code), and what its key cannot
hold, cannot be written: the answer is then None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from vramlint.facts import Fact, FactValue, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.adapting import COVERED, write_adapters
from vramlint.surfaces.code_changes import write_checkpointing, write_optimizer
from vramlint.surfaces.holding import Holder, holder_of
from vramlint.surfaces.joining import joined_edits
from vramlint.surfaces.keys import VOCABULARIES, KeyRow, all_rows
from vramlint.surfaces.literals import JSON, SHELL, YAML, literal, value_at
from vramlint.surfaces.members import read_data, set_key
from vramlint.surfaces.phrases import form_of_fact, form_of_path, phrase, phrase_anew
from vramlint.surfaces.several import SEVERAL
from vramlint.surfaces.spelling import Written as Held
from vramlint.surfaces.spelling import reads, spelled
from vramlint.text import Document, Edit, Place
from vramlint.values import Items, Table

_ROADS = (
    "literal",
    "config-file",
    "module-constant",
    "function-default",
    "argparse-default",
    "dataclass-default",
    "click-default",
    "cli",
    "shell",
    "shell-variable",
    "code",
)
"""How values come that a literal may say; a fact that a call states by itself has the call's place."""
_SECTION = "fsdp_config."
"""What facts have before the keys of FSDP's options."""
_ONLY_REPLACED = frozenset((("from-pretrained", "quantization_bits"),))
"""Keys that transformers 5 takes no longer."""


_FOLLOWING: Mapping[str, tuple[str, ...]] = {
    "fsdp": ("fsdp_",),
    "world_size": ("distributed_type",),
    "arrival_dtype": ("dtype", "torch_dtype"),
}
"""How keys begin from which a fact follows that further keys say."""
_CONTINUED = lazy(r"[ \t]*\\\r?\n\Z")
_PARSED = ("training-arguments", "trl")
"""Vocabularies of classes that HfArgumentParser makes options of."""
_BY_PROGRAM = ("diffusers",)
"""Vocabularies of programs that take options for what their code does."""


class Written(Struct, frozen=True):
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
    adapted = _adapters(run)
    if adapted is not None:
        words.append(adapted.description)
        edits += adapted.edits
    for name in changes if adapted is None else [name for name in changes if name not in COVERED]:
        written = _written(run, name)
        if written is None:
            return _by_options(run)
        words += [written.description] if written.description not in words else []
        edits += written.edits
    merged = joined_edits(edits)
    return Written(", ".join(words), merged) if words and merged is not None else None


def _by_options(run: _Run) -> Written | None:
    """The changes as options of the script's own command line, which no file of the run holds: there is no edit."""
    if "argument_parser" not in run.by_name:
        return None
    words: list[str] = []
    for name in run.changes:
        said = next(_options(run, name), None)
        if said is None:
            return None
        words += [said] if said not in words else []
    return Written(" ".join(words), ())


def _options(run: _Run, name: str) -> Iterator[str]:
    for rows, wanted in _saying(run, name, _PARSED):
        value = spelled(rows, wanted, {})
        if _survives(rows, value, wanted):
            yield phrase(rows[0].key, literal(value, SHELL), SHELL)


class _Run(Struct, frozen=True):
    changes: Mapping[str, FactValue]
    by_name: Mapping[str, Fact]
    facts: Sequence[Fact]
    anchor: Place | None
    documents: Mapping[str, Document]

    def holder(self, vocabulary: str) -> Holder | None:
        """Where keys of a vocabulary can be written."""
        return holder_of(vocabulary, self.facts, self.anchor, self.documents)


def _adapters(run: _Run) -> Written | None:
    """Adapters in the code that loads the model."""
    if "tuning" not in run.changes:
        return None
    said = write_adapters(run.changes, run.facts, run.holder("from-pretrained"))
    return None if said is None else Written(*said)


def _written(run: _Run, name: str) -> Written | None:
    fact = run.by_name.get(name)
    said = fact is not None and fact.origin is Origin.WRITTEN and fact.via != "library" and fact.place is not None
    if fact is not None and fact.holds(run.changes[name]):
        form = form_of_fact(fact)
        return Written(phrase(fact.key or name, literal(run.changes[name], form), form), ())
    if fact is not None and (name in SEVERAL or said):
        written = _by_several(run, fact) if name in SEVERAL else None
        if written is None and said:
            written = _replaced(run, fact)
        if written is None and said and fact.via == "code":
            written = _switched_off(run, fact) or _added(run, name, "", _BY_PROGRAM)
        if written is not None or said:
            return written or _in_code(run, name)
    if fact is not None and fact.origin is Origin.UNKNOWN:
        return None
    return _added(run, name, fact.key if fact is not None else "") or _in_code(run, name)


def _in_code(run: _Run, name: str) -> Written | None:
    """What the code of a program does by itself, without a key."""
    said = None
    fact = run.by_name.get(name)
    if name == "activation_checkpointing" and run.changes[name] is True:
        said = write_checkpointing(run.by_name, run.holder("from-pretrained"))
    elif name == "optimizer" and fact is not None:
        said = write_optimizer(run.changes[name], fact, run.documents)
    return None if said is None else Written(*said)


def _by_several(run: _Run, fact: Fact) -> Written | None:
    """A fact that a vocabulary says by several keys together."""
    for vocabulary, spell in SEVERAL[fact.name].items():
        if not (_says(vocabulary, fact) or fact.key.rpartition(".")[2].startswith(_FOLLOWING.get(fact.name, ()))):
            continue
        holder = run.holder(vocabulary)
        if holder is not None and holder.form == SHELL:
            continue
        keys = spell(run.changes[fact.name], fact, holder) if holder is not None else None
        if holder is None or keys is None:
            continue
        edits = [holder.put(key, value) for key, value in keys.items()]
        made = [edit for edit in edits if edit is not None]
        if len(made) == len(edits):
            words = [phrase_anew(key, value, holder.form) for key, value in keys.items()]
            return Written(", ".join(words), tuple(made))
    return None


def _says(vocabulary: str, fact: Fact) -> bool:
    return any(row.key == fact.key and row.fact == fact.name for row in all_rows(vocabulary))


def _replaced(run: _Run, fact: Fact) -> Written | None:
    """Replace the literal where it is written."""
    place = fact.place
    document = run.documents.get(place.path) if place else None
    if place is None or document is None or fact.via not in _ROADS or len(fact.candidates) > 1:
        return None
    form = form_of_path(place.path)
    if form in (JSON, YAML) and (member := _member(run, fact, document, form)) is not None:
        return member
    place = _word(document, place) if form == SHELL else place
    old = document.slice(place.span)
    held = value_at(old, form)
    now = {item.name: item.value for item in run.facts if item.place == fact.place and item.key == fact.key}
    for rows in _rows_of(fact):
        if held is None or not any(row.fact == fact.name and reads(row, held, fact.value) for row in rows):
            continue
        wanted = {row.fact: run.changes[row.fact] for row in rows if row.fact in run.changes}
        value = spelled(rows, wanted, now)
        if value is None:
            return None
        text = literal(value, form, old)
        again = value_at(text, form)
        if again is None or not all(reads(row, again, wanted[row.fact]) for row in rows if row.fact in wanted):
            return None  # as a word of a command line `null` is no text
        text = f"{old} {text}" if form == SHELL and old.startswith("--") else text
        return Written(phrase(fact.key, text, form), (Edit(place, text),))
    return None


def _member(run: _Run, fact: Fact, document: Document, form: str) -> Written | None:
    """A list of a data file, which may go over several lines."""
    root = read_data(document).root
    entry = root.entry(*fact.key.split(".")) if isinstance(root, Table) else None
    if entry is None or not isinstance(entry.value, Items) or entry.value.place != fact.place:
        return None
    for rows in _rows_of(fact):
        value = spelled(rows, {fact.name: run.changes[fact.name]}, {})
        edit = set_key(document, root, fact.key, value, form) if isinstance(root, Table) and value is not None else None
        if edit is not None and any(reads(row, entry.value, fact.value) for row in rows if row.fact == fact.name):
            return Written(phrase(fact.key, literal(value, form), form), (edit,))
    return None


def _word(document: Document, place: Place) -> Place:
    """The value of an option with its quotes, which a reader leaves out, and without the option before `=`."""
    start, end = (
        document.offset(place.span.line, place.span.column),
        document.offset(place.span.end_line, place.span.end_column),
    )
    around = document.text[max(start - 1, 0) : start]
    if around in ("'", '"') and document.text[end : end + 1] == around:
        start, end = start - 1, end + 1
    head, equals, _ = document.text[start:end].partition("=")
    if equals and head.startswith("--"):
        start += len(head) + 1
    return Place(place.path, document.span(start, end))


def _rows_of(fact: Fact) -> Iterator[tuple[KeyRow, ...]]:
    """The rows of the key that says a fact, of each vocabulary that has it."""
    for vocabulary in VOCABULARIES:
        key = fact.key.removeprefix(_SECTION) if vocabulary == "fsdp" else fact.key
        rows = tuple([row for row in all_rows(vocabulary) if row.key == key])
        if any(row.fact == fact.name for row in rows):
            yield rows


def _switched_off(run: _Run, fact: Fact) -> Written | None:
    """Take away the only switch of a command line that makes a program do it."""
    place = fact.decided[0] if len(fact.decided) == 1 else None
    document = run.documents.get(place.path) if place else None
    if place is None or document is None or form_of_path(place.path) != SHELL or run.changes[fact.name] is not False:
        return None
    old = document.slice(place.span)
    switches = [f"--{row.key}" for row in all_rows(_BY_PROGRAM[0]) if row.fact == fact.name]
    if old.replace("_", "-") not in [switch.replace("_", "-") for switch in switches]:
        return None
    start, end = document.offset(place.span.line, place.span.column), document.offset(*place.span[2:])
    before = document.text[:start].rstrip(" \t")
    if not document.line(place.span.end_line)[place.span.end_column - 1 :].strip():
        before = _CONTINUED.sub("", before)  # what was continued for it alone
    start = len(before)
    return Written(f"no {old}", (Edit(Place(place.path, document.span(start, end)), ""),))


def _added(run: _Run, name: str, key: str, vocabularies: Sequence[str] = VOCABULARIES) -> Written | None:
    """Add the key where the run's files have a place for it, beside the one that would say it by default."""
    order = sorted(vocabularies, key=lambda vocabulary: not key or not _has(vocabulary, key))
    for vocabulary in order:
        rows = [row for row in all_rows(vocabulary) if row.fact == name]
        holder = run.holder(vocabulary) if rows and (vocabulary, name) not in _ONLY_REPLACED else None
        if holder is None:
            continue
        for alike, wanted in _saying(run, name, (vocabulary,)):
            row = alike[0]
            value: Held = spelled(alike, wanted, {}) if holder.takes(row.key) else None
            if holder.form == SHELL and not _survives(alike, value, wanted):
                continue
            edit = holder.put(row.key, value) if value is not None else None
            if edit is not None:
                return Written(phrase_anew(row.key, value, holder.form), (edit,))
    return None


def _saying(
    run: _Run, name: str, vocabularies: Sequence[str]
) -> Iterator[tuple[list[KeyRow], Mapping[str, FactValue]]]:
    """The keys that may say a fact: all that such a key says, and what of that is to change."""
    for vocabulary in vocabularies:
        for row in all_rows(vocabulary):
            if row.fact == name:
                alike = [other for other in all_rows(vocabulary) if other.key == row.key]
                yield alike, {other.fact: run.changes[other.fact] for other in alike if other.fact in run.changes}


def _survives(rows: Sequence[KeyRow], value: Held, wanted: Mapping[str, FactValue]) -> bool:
    """Whether a command line's parser gets back what is written; `null` is no text there."""
    again = value_at(literal(value, SHELL), SHELL)
    return again is not None and all(reads(row, again, wanted[row.fact]) for row in rows if row.fact in wanted)


def _has(vocabulary: str, key: str) -> bool:
    return any(row.key == key for row in all_rows(vocabulary))

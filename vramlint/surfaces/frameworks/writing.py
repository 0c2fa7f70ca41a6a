"""The way back for frameworks: changed facts as edits of the configuration, or of the command line, that says them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from vramlint.facts import Fact, FactValue, Origin
from vramlint.surfaces import members
from vramlint.surfaces.frameworks.framework import Beside, Framework, Gone
from vramlint.surfaces.frameworks.spelling import spell
from vramlint.surfaces.literals import literal
from vramlint.surfaces.members import form_of, set_key
from vramlint.surfaces.removal import remove_keys
from vramlint.surfaces.spelling import Written
from vramlint.text import Document, Edit, Place
from vramlint.values import Reading, Table


class Said(Struct, frozen=True):
    """Changes in the framework's words, `optimizer: adamw_bnb_8bit`, and the edits that make it so."""

    description: str
    edits: tuple[Edit, ...]


def write_facts(
    framework: Framework,
    changes: Mapping[str, FactValue],
    facts: Sequence[Fact],
    documents: Mapping[str, Document],
) -> Said | None:
    """Edits that give the facts their new values, all or none.

    A flag of a command line is changed where it stands; every other key in the framework's own file.

    Args:
        framework: in whose vocabulary.
        changes: fact names to new values.
        facts: what the run's files say.
        documents: the files by path.
    """
    by_name = {fact.name: fact for fact in facts}
    words: list[str] = []
    edits: list[Edit] = []
    made: dict[str, Written | Gone] = {}
    """What is written already: one key may say several facts."""
    for name, value in changes.items():
        if name in framework.follows and not framework.follows.issuperset(changes):
            continue
        fact = by_name.get(name)
        if len(changes) > 1 and fact is not None and fact.holds(value):
            continue
        file = _file(facts, documents)
        around = Beside(file.root, by_name, changes) if file is not None else None
        keys = spell(framework, name, value, fact.key if fact is not None else "", around)
        if keys is None:
            return None
        new = {key: plain for key, plain in keys.items() if key not in made or made[key] != plain}
        made |= new
        for key, plain in new.items():
            if isinstance(plain, Gone):
                removed = _removed(framework, key, file) if file is not None else None
                if removed is None:
                    return None
                edits += removed
                continue
            edit = _flag(fact, key, plain, documents) if fact is not None else None
            edit = edit or (_in_file(framework, key, plain, file) if file is not None else None)
            if edit is None:
                return None
            edits.append(edit)
            words.append(f"{key}: {literal(plain, 'yaml')}")
    return Said(", ".join(words), _merged(edits)) if edits else None


def _flag(fact: Fact, key: str, value: Written, documents: Mapping[str, Document]) -> Edit | None:
    """The value of a command line's option, where it is written plainly."""
    place = fact.place
    document = documents.get(place.path) if place else None
    if place is None or document is None or form_of(place.path) or fact.origin is not Origin.WRITTEN:
        return None
    if fact.key != key or fact.via not in ("cli", "shell", "shell-variable") or isinstance(value, bool | None):
        return None
    old = document.slice(place.span)
    quote = old[:1] if old[:1] in ("'", '"') else ""
    return Edit(place, f"{quote}{value}{quote}") if old and "\n" not in old and "$" not in old else None


class _File(Struct, frozen=True):
    document: Document
    root: Table


def _file(facts: Iterable[Fact], documents: Mapping[str, Document]) -> _File | None:
    """The file of data that says most of the run."""
    said = [
        fact.place.path
        for fact in facts
        if fact.place is not None and fact.via == "config-file" and form_of(fact.place.path)
    ]
    for path in sorted(set(said), key=lambda path: (-said.count(path), path)):
        document = documents.get(path)
        root = read_data(document).root if document else None
        if document is not None and isinstance(root, Table):
            return _File(document, root)
    return None


def _in_file(framework: Framework, key: str, value: Written, file: _File) -> Edit | None:
    written = framework.located(file.root, key) if framework.located is not None else key
    return set_key(file.document, file.root, written, value, form_of(file.document.path))


def _removed(framework: Framework, key: str, file: _File) -> tuple[Edit, ...] | None:
    """The edits that take a key out; none where it is not there."""
    written = framework.located(file.root, key) if framework.located is not None else key
    if file.root.entry(*written.split(".")) is None:
        return ()
    return remove_keys(file.document, file.root, [written], form_of(file.document.path))


def read_data(document: Document) -> Reading:
    """The tree of a JSON, YAML or TOML document, or the names of a Python module, by its name."""
    if document.path.endswith(".py") and document.tree is None:
        from vramlint.surfaces.frameworks.python_configs import read_python

        return read_python(document)
    return members.read_data(document)


def _merged(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Insertions at one and the same place joined into one edit, in order."""
    joined: dict[Place, str] = {}
    for edit in edits:
        joined[edit.place] = joined.get(edit.place, "") + edit.replacement
    return tuple(Edit(place, text) for place, text in joined.items())

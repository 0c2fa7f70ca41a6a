"""A file of torchtitan's registry by itself: no run, but what all of its functions say, or may."""

from __future__ import annotations

from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.surfaces.draft import united
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.torchtitan import FRAMEWORK
from vramlint.surfaces.frameworks.torchtitan_registry import functions_of, made
from vramlint.text import Document

KIND = "torchtitan-registry"


def registry_sheet(document: Document) -> Sheet | None:
    """The facts of a registry; a fact on which its functions differ has the values of all. None for another file."""
    names = functions_of(document) if "torchtitan" in document.text else ()
    tables = made(document, names) if names else {}
    if not tables:
        return None
    read = [
        {fact.name: fact for fact in read_config(FRAMEWORK, document.path, table).facts} for table in tables.values()
    ]
    shared = [name for name in read[0] if all(name in facts for facts in read)]
    facts = [fact for name in shared if (fact := united(facts[name] for facts in read)) is not None]
    kind = Fact("run_kind", (Candidate("library"),), Origin.DERIVED, via="code", reason="the command line chooses")
    return Sheet(document.path, KIND, (kind, *(fact for fact in facts if fact.name != "run_kind")))

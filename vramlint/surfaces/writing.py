"""The way back: changed facts as text edits in the vocabulary of the files that say them.

A fact that a file writes as a literal is replaced there; one that no file writes is added to the TrainingArguments
of the run. What is neither (a model loaded by hand, an adapter that needs code) cannot be written: the answer is
then None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from vramlint.facts import Fact, FactValue, Origin
from vramlint.surfaces import insertion
from vramlint.surfaces.keys import find_row, keys_saying
from vramlint.text import Document, Edit, Place

PYTHON, JSON, YAML = "python", "json", "yaml"

_FORMS: Mapping[str, str] = MappingProxyType(
    {"py": PYTHON, "ipynb": PYTHON, "json": JSON, "jsonc": JSON, "hjson": JSON, "yaml": YAML, "yml": YAML}
)

_VOCABULARIES = ("training-arguments", "trl", "trl-model", "from-pretrained", "deepspeed", "accelerate-config")
"""Vocabularies that fixes write in."""

_ALTERNATIVE_ROADS = ("module-constant", "function-default", "argparse-default", "dataclass-default", "click-default")

_ARGUMENTS_CLASSES = ("TrainingArguments", "SFTConfig", "DPOConfig", "ORPOConfig", "KTOConfig", "RewardConfig")
"""Classes that take the keys of `training-arguments`, by the end of their name."""


_OFFLOAD_BLOCKS: Mapping[str, str] = MappingProxyType(
    {"offload_optimizer": "offload_optimizer", "offload_parameters": "offload_param"}
)
"""Fact to the block of `zero_optimization` that says it."""


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
    by_name = {fact.name: fact for fact in facts}
    words: list[str] = []
    edits: list[Edit] = []
    for name, value in changes.items():
        fact = by_name.get(name)
        replaced = _replace(fact, value, documents) if fact is not None and fact.origin is Origin.WRITTEN else None
        if replaced is None and fact is not None and fact.origin in (Origin.WRITTEN, Origin.UNKNOWN):
            return None
        written = replaced or _add(name, value, facts, anchor, documents)
        if written is None:
            return None
        words.append(written.description)
        edits += written.edits
    merged = _merged(edits)
    return Written(", ".join(words), merged) if words else None


def _replace(fact: Fact, value: FactValue, documents: Mapping[str, Document]) -> Written | None:
    """Replace the literal where it is written."""
    place = fact.place
    document = documents.get(place.path) if place else None
    form = _form(place)
    writable = fact.via in ("literal", "config-file", *_ALTERNATIVE_ROADS)
    row = next((row for name in _VOCABULARIES if (row := find_row(name, fact.key))), None)
    if place is None or document is None or form is None or row is None or not writable or len(fact.candidates) > 1:
        return None
    old = document.slice(place.span)
    literal = _spell(value, form, old)
    if literal is None:
        return None
    return Written(_say(fact.key.rsplit(".", 1)[-1], literal, form), (Edit(place, literal),))


def _add(
    name: str,
    value: FactValue,
    facts: Sequence[Fact],
    anchor: Place | None,
    documents: Mapping[str, Document],
) -> Written | None:
    """Add the key to the TrainingArguments of the run."""
    if name in _OFFLOAD_BLOCKS:
        return _add_offload(_OFFLOAD_BLOCKS[name], value, facts, documents)
    keys = keys_saying(name, "training-arguments")
    if not keys:
        return None
    key = keys[0]
    call = _arguments_call(anchor, documents)
    if call is not None:
        literal = _spell(value, PYTHON, "")
        edit = insertion.keyword(documents[call.path], call, key, literal) if literal else None
        return Written(_say(key, literal, PYTHON), (edit,)) if literal and edit else None
    return _add_to_data(key, value, facts, documents)


def _add_offload(
    block: str, value: FactValue, facts: Sequence[Fact], documents: Mapping[str, Document]
) -> Written | None:
    """Add an offload block to a DeepSpeed JSON, behind the ZeRO stage."""
    stage = next((fact for fact in facts if fact.name == "zero_stage" and fact.key == "zero_optimization.stage"), None)
    place = stage.place if stage is not None else None
    if place is None or place.path not in documents or _form(place) != JSON:
        return None
    literal = json.dumps({"device": value})
    edit = insertion.member(documents[place.path], place, block, literal)
    return Written(_say(block, literal, JSON), (edit,))


def _add_to_data(
    key: str, value: FactValue, facts: Sequence[Fact], documents: Mapping[str, Document]
) -> Written | None:
    """Add the key beside another top-level key of a JSON or YAML file of TrainingArguments."""
    beside = [
        fact.place
        for fact in facts
        if fact.origin is Origin.WRITTEN
        and fact.place is not None
        and fact.place.path in documents
        and _form(fact.place) in (JSON, YAML)
        and "." not in fact.key
        and find_row("training-arguments", fact.key) is not None
        and _begins_its_line(fact.place, fact.key, documents)
    ]
    if not beside:
        return None
    place = max(beside)
    document, form = documents[place.path], _form(place)
    literal = _spell(value, form, "") if form else None
    if literal is None or form is None:
        return None
    edit = (
        insertion.member(document, place, key, literal)
        if form == JSON
        else insertion.line_before(document, place, key, literal)
    )
    return Written(_say(key, literal, form), (edit,))


def _begins_its_line(value: Place, key: str, documents: Mapping[str, Document]) -> bool:
    """In YAML a line can only be added beside a member that stands on a line of its own, value and key."""
    line = documents[value.path].line(value.span.line)
    return _form(value) == JSON or line.lstrip(" ").startswith(f"{key}:")


def _arguments_call(anchor: Place | None, documents: Mapping[str, Document]) -> Place | None:
    """The call that makes the run's TrainingArguments: the anchor itself, or the only such call of its file."""
    document = documents.get(anchor.path) if anchor is not None else None
    if anchor is None or document is None or _form(anchor) != PYTHON:
        return None
    if document.slice(anchor.span).partition("(")[0].strip().endswith(_ARGUMENTS_CLASSES):
        return anchor
    made = insertion.calls(document, _ARGUMENTS_CLASSES)
    return made[0] if len(made) == 1 else None


def _form(place: Place | None) -> str | None:
    return _FORMS.get(place.path.rsplit(".", 1)[-1].lower()) if place else None


def _spell(value: FactValue, form: str, old: str) -> str | None:
    """The value as a literal, in the manner of the text that it replaces."""
    if value is None or isinstance(value, tuple):
        return None
    if form != PYTHON:
        quoted = json.dumps(value)
        return str(value) if form == YAML and isinstance(value, str) and not old.startswith(("'", '"')) else quoted
    if not isinstance(value, str):
        return repr(value)
    if old.startswith("torch."):
        return f"torch.{value}"
    return f"'{value}'" if old.startswith("'") else f'"{value}"'


def _say(key: str, literal: str, form: str) -> str:
    return {PYTHON: f"{key}={literal}", JSON: f'"{key}": {literal}', YAML: f"{key}: {literal}"}[form]


def _merged(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Insertions at one and the same place joined into one edit, in order."""
    joined: dict[Place, str] = {}
    for edit in edits:
        before = joined.get(edit.place, "")
        # into an empty call, where nothing before the keyword asks for a comma
        comma = ", " if before and not before.endswith((",", "\n")) and edit.replacement[:1] not in ",\n" else ""
        joined[edit.place] = f"{before}{comma}{edit.replacement}"
    return tuple(Edit(place, text) for place, text in joined.items())

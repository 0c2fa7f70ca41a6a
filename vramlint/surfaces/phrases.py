"""How a changed key reads: `optim="adamw_bnb_8bit"`, `"stage": 3`, `--bf16 True`."""

from __future__ import annotations

import json

from vramlint.facts import Fact
from vramlint.surfaces.literals import JSON, PYTHON, SHELL, YAML, literal
from vramlint.surfaces.members import form_of
from vramlint.surfaces.spelling import Written


def form_of_fact(fact: Fact) -> str:
    """The form of the file that says a fact, YAML where none does."""
    return form_of_path(fact.place.path) if fact.place is not None else YAML


def form_of_path(path: str) -> str:
    """The form of a file: python, json, yaml or shell."""
    return form_of(path) or (PYTHON if path.endswith((".py", ".ipynb")) else SHELL)


def phrase(key: str, text: str, form: str) -> str:
    """A key that gets another value, by its last name; `text` is the value as the form writes it."""
    name = key.rpartition(".")[2]
    if form == SHELL:
        return text if text.startswith("--") else f"--{name} {text}"
    return {PYTHON: f"{name}={text}", JSON: f'"{name}": {text}', YAML: f"{name}: {text}"}[form]


def phrase_anew(key: str, value: Written, form: str) -> str:
    """A key that is new, with the table that holds it; in Python with all of them, up to the argument."""
    *sections, last = key.split(".")
    sections = sections if form == PYTHON else sections[-1:]
    text = literal(value, form)
    if form == SHELL or not sections:
        return phrase(key, text, form)
    for section in reversed(sections):
        text = f"{{{last}: {text}}}" if form == YAML else f"{{{json.dumps(last)}: {text}}}"
        last = section
    return phrase(last, text, form)

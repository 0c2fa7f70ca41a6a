"""Sweeps of Weights & Biases: a program that an agent runs with parameters of its choice."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.surfaces.jobfiles.scripts import Scripts
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Alternatives, Entry, Items, Option, Scalar, Table, Unknown, Value

_MACRO = re.compile(r"\$\{(\w+)\}")
_DEFAULT = ("${interpreter}", "${program}", "${args}")
_FORMS = {"args": "--{}=", "args_no_boolean_flags": "--{}=", "args_no_hyphens": "{}="}
"""How `${args}` and its kin write a parameter."""
MAX_CHOICES = 16
"""Values of a parameter that are told apart."""


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """The command that the agents of a sweep run."""
    command = table.get("command")
    given: tuple[Value, ...] = tuple(Scalar(word) for word in _DEFAULT)
    if isinstance(command, Items):
        given = command.values
    program = table.get("program")
    words = tuple(word for value in given for word in _words(value, program, table.get("parameters")))
    place = table.place
    if place is None or not words:
        return ()
    ran = scripts.words(words, place)
    return (Workload(scripts.document.path, "", ran.commands, (), ran.files),) if ran.commands else ()


def _words(value: Value, program: Value | None, parameters: Value | None) -> Iterator[Value]:
    match = _MACRO.fullmatch(str(value.value)) if isinstance(value, Scalar) else None
    if match is None:
        yield value
    elif match[1] == "interpreter":
        yield Scalar("python", value.place)
    elif match[1] == "program" and program is not None:
        yield program
    elif match[1] in _FORMS and isinstance(parameters, Table):
        for entry in parameters:
            yield _joined(_FORMS[match[1]].format(entry.key), _chosen(entry))
    elif match[1] != "env":
        yield Unknown(f"`{match[0]}` of the sweep", value.place)


def _chosen(entry: Entry) -> Value:
    """The value that the agent gives a parameter."""
    said = entry.value
    value = said.get("value") if isinstance(said, Table) else said
    if value is not None and not isinstance(value, Table):
        return value
    values = said.get("values") if isinstance(said, Table) else None
    if isinstance(values, Items) and 0 < len(values.values) <= MAX_CHOICES:
        choices = tuple(Option(each, f"{entry.key} of the sweep") for each in values.values)
        return choices[0].value if len(choices) == 1 else Alternatives(choices)
    return Unknown(f"`{entry.key}`, which the sweep varies", entry.key_place)


def _joined(name: str, value: Value) -> Value:
    match value:
        case Scalar():
            return Scalar(f"{name}{value.value}", value.place)
        case Alternatives(options=options):
            return Alternatives(tuple(Option(_joined(name, o.value), o.condition) for o in options), value.place)
        case Unknown():
            return Unknown(value.reason, value.place, name)
        case _:
            return Unknown("a value that is no text", value.place, name)

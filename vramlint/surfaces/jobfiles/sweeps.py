"""Sweeps of Weights & Biases: a program that an agent runs with parameters of its choice.

The form is that of wandb 0.16 to 0.25 (docs, sweep configuration): `parameters` with `value`, `values`, or `min` and
`max`; parameters may have parameters of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles.scripts import Scripts
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Alternatives, Entry, Items, Option, Scalar, Table, Unknown, Value

_MACRO = lazy(r"\$\{(\w+)\}")
_DEFAULT = ("${interpreter}", "${program}", "${args}")
_FORMS = {"args": "--{}=", "args_no_boolean_flags": "--{}=", "args_no_hyphens": "{}="}
"""How `${args}` and its kin write a parameter."""
MAX_CHOICES = 16
"""Values of a parameter that are told apart; of more numbers, the least and the largest."""
_LOG = ("log_uniform", "q_log_uniform")
"""Distributions whose bounds are exponents of e."""


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """The command that the agents of a sweep run, with what it varies as alternatives."""
    command = table.get("command")
    given: tuple[Value, ...] = tuple(Scalar(word) for word in _DEFAULT)
    if isinstance(command, Items):
        given = command.values
    program = table.get("program")
    chosen = {name: _chosen(name, entry) for name, entry in _parameters(table.get("parameters"), "")}
    words = tuple(word for value in given for word in _words(value, program, chosen))
    place = table.place
    if place is None or not words:
        return ()
    ran = scripts.words(words, place)
    varied = tuple(
        (name, tuple(option.condition for option in value.options))
        for name, value in chosen.items()
        if isinstance(value, Alternatives)
    )
    return (Workload(scripts.document.path, "", ran.commands, (), ran.files, varied),) if ran.commands else ()


def _words(value: Value, program: Value | None, chosen: Mapping[str, Value]) -> Iterator[Value]:
    match = _MACRO.fullmatch(str(value.value)) if isinstance(value, Scalar) else None
    if match is None:
        yield value
    elif match[1] == "interpreter":
        yield Scalar("python", value.place)
    elif match[1] == "program" and program is not None:
        yield program
    elif match[1] in _FORMS:
        for name, one in chosen.items():
            yield _joined(_FORMS[match[1]].format(name), one)
    elif match[1] != "env":
        yield Unknown(f"`{match[0]}` of the sweep", value.place)


def _parameters(value: Value | None, above: str) -> Iterator[tuple[str, Entry]]:
    """The parameters by name; those inside others by dotted path."""
    for entry in value if isinstance(value, Table) else ():
        inner = entry.value.get("parameters") if isinstance(entry.value, Table) else None
        if isinstance(inner, Table):
            yield from _parameters(inner, f"{above}{entry.key}.")
        else:
            yield f"{above}{entry.key}", entry


def _chosen(name: str, entry: Entry) -> Value:
    """The value that the agent gives a parameter: one of several, or between two ends."""
    said = entry.value
    value = said.get("value") if isinstance(said, Table) else said
    if value is not None and not isinstance(value, Table):
        return value
    options = _options(said) if isinstance(said, Table) else ()
    if not options:
        return Unknown(f"`{name}`, which the sweep varies", entry.key_place)
    choices = tuple(Option(one, f"{name} = {one.value!r}") for one in options)
    return choices[0].value if len(choices) == 1 else Alternatives(choices)


def _options(said: Table) -> tuple[Scalar, ...]:
    values = said.get("values")
    if isinstance(values, Items):
        found = tuple([item for item in values.values if isinstance(item, Scalar)])
        if len(found) < len(values.values):
            return ()
        return found if len(found) <= MAX_CHOICES else _ends(found)
    ends = tuple([end for key in ("min", "max") if isinstance(end := said.get(key), Scalar)])
    if len(ends) < 2 or not all(isinstance(end.value, int | float) for end in ends):
        return ()
    distribution = said.get("distribution")
    exponents = isinstance(distribution, Scalar) and distribution.value in _LOG
    return tuple([Scalar(math.exp(_number(end)), end.place) for end in ends]) if exponents else ends


def _ends(found: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    if not all(isinstance(one.value, int | float) for one in found):
        return ()
    ordered = sorted(found, key=_number)
    return (ordered[0], ordered[-1])


def _number(value: Scalar) -> float:
    return min(float(value.value), 700.0) if isinstance(value.value, int | float) else 0.0


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

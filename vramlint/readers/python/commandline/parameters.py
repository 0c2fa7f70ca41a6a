"""Parameters of functions that are commands."""

from __future__ import annotations

import libcst as cst
from msgspec import Struct

from vramlint.readers.python.choices import choose
from vramlint.readers.python.classes import required
from vramlint.readers.python.commandline.kinds import Kind, kind_of
from vramlint.readers.python.commands import command_default, remaining_options
from vramlint.readers.python.conditions import Tests
from vramlint.readers.python.machine import Arguments, Machine, Setting
from vramlint.readers.python.objects import NOT_GIVEN, Function, Given, Object


class Parameter(Struct, frozen=True):
    """A parameter of a command."""

    name: str
    kind: Kind
    node: cst.Param


def parameters_of(function: Function) -> tuple[Parameter, ...]:
    """What a command can be given, without `self`."""
    given = function.node.params
    found = [
        Parameter(item.name.value, kind_of(item.annotation.annotation if item.annotation else None), item)
        for item in (*given.posonly_params, *given.params, *given.kwonly_params)
    ]
    return tuple(found[1:] if function.owner is not None and not function.decorated_with("staticmethod") else found)


def note_settings(machine: Machine, function: Function, given: dict[str, Object] | None = None) -> None:
    """Record a command's parameters as settings of the program."""
    for item in parameters_of(function):
        place = machine.place(item.node.name)
        default = command_default(function, item.name) or function.defaults.get(item.name)
        value = (given or {}).get(item.name) or default or required(item.name, place)
        machine.settings.append(Setting(item.name, place, value))
    if function.node.params.star_kwarg is None:
        return
    for name, default in remaining_options(function, [item.name for item in parameters_of(function)]):
        machine.settings.append(Setting(name, None, (given or {}).get(name) or default))


def merged_arguments(outcomes: list[tuple[Arguments, Tests]]) -> Arguments:
    """One set of keywords for several possible command lines."""
    if len(outcomes) == 1:
        return outcomes[0][0]
    names = dict.fromkeys(item.name for arguments, _ in outcomes for item in arguments.keywords)
    keywords = []
    for name in names:
        held = [(arguments.get(name) or NOT_GIVEN, tests) for arguments, tests in outcomes]
        keywords.append(Given(name, choose(held)))
    return Arguments((), tuple(keywords))

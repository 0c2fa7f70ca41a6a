"""Calls of the file's own functions: binding parameters and evaluating the body in place."""

from __future__ import annotations

from functools import lru_cache

import libcst as cst

from vramlint.patterns import lazy
from vramlint.readers.python.choices import choose
from vramlint.readers.python.classes import relabel
from vramlint.readers.python.commands import command_default, remaining_options
from vramlint.readers.python.conditions import Tests
from vramlint.readers.python.contexts import generated
from vramlint.readers.python.machine import (
    MAX_DEPTH,
    MAX_NESTED,
    MAX_PARTS,
    MAX_STEPS,
    MAX_VISITS,
    Arguments,
    Flow,
    Frame,
    Machine,
    Site,
)
from vramlint.readers.python.modules import MAX_BUILT, is_builder
from vramlint.readers.python.objects import (
    OPEN,
    Choice,
    Function,
    LibraryObject,
    Mapping,
    Object,
    Scope,
    Sequence,
    Slot,
)
from vramlint.text import Document
from vramlint.values import Scalar, Unknown


def define(
    machine: Machine, node: cst.FunctionDef | cst.Lambda, scope: Scope, decorators: tuple[Object, ...]
) -> Function:
    """The function that a `def` or lambda makes, its defaults evaluated here and now."""
    parameters = node.params
    defaults = {
        parameter.name.value: relabel(machine.evaluate(parameter.default, scope), "function-default")
        for parameter in (*parameters.posonly_params, *parameters.params, *parameters.kwonly_params)
        if parameter.default is not None
    }
    name = node.name.value if isinstance(node, cst.FunctionDef) else "a lambda"
    owner = scope.owner if scope.kind == "class" else None
    return Function(name, node, scope, defaults, tuple(machine.path), decorators, owner)


def call_function(machine: Machine, function: Function, site: Site, owner: Object | None = None) -> Object:
    """What a call returns: the returned object, or a choice when several returns are possible."""
    if _is_left_out(machine, function, site, owner) or not machine.whole(function):
        if isinstance(owner, LibraryObject) and function.name == "__init__":
            owner.open = True  # what it consists of is not known
        return site.unknown(f"result of {function.name}()")
    function.called += 1
    machine.built += is_builder(function)
    scope = machine.new_scope(function.scope, "function")
    scope.owner, scope.self_object = function.owner, owner
    if owner is None and function.owner is not None:  # `Class.method(self)`, or called by its decorator
        scope.self_object = site.arguments.positional[0] if site.arguments.positional else None
    _bind(machine, function, site, scope, owner)
    body = function.node.body
    if isinstance(function.node, cst.Lambda):
        assert isinstance(body, cst.BaseExpression)  # noqa: S101 (a lambda's body is an expression by its grammar)
        with machine.entering(Frame(function, len(machine.path), place=site.place)):
            return machine.evaluate(body, scope)
    frame = Frame(function, len(machine.path), loose=machine.loose, place=site.place)
    assert isinstance(body, cst.BaseSuite)  # noqa: S101 (a def's body is a suite by its grammar)
    with machine.entering(frame), machine.under():
        flow = machine.execute(body.body, scope)
        rest: Tests = tuple(machine.path[frame.base :])
    if frame.is_generator:
        known = not (frame.uncertain or rest)
        return generated(function, frame.yields, site) if known else site.unknown(f"items of {function.name}()")
    found = _result(frame, flow, rest, site)
    if _is_undecided(found) and _lists_linear_layers(machine, function):
        return Scalar(ALL_LINEAR, site.place, "code")
    return found


def _is_left_out(machine: Machine, function: Function, site: Site, owner: Object | None) -> bool:
    """Whether a call is not entered: for recursion, a spent budget, or as a spare entry point that repeats `main()`.

    A function may call itself often on parts of its data, as those do that turn nested dicts into namespaces.
    """
    inside = any(frame.function is function for frame in machine.frames)
    most = MAX_PARTS if inside and _takes_data(site) else MAX_VISITS
    return (
        _repeats(machine, function)
        or len(machine.frames) >= MAX_DEPTH
        or machine.steps > MAX_STEPS
        or (machine.built >= MAX_BUILT if is_builder(function) else function.called >= most)
        or (machine.finishing and function.called > 0 and owner is None and _starts_again(machine, site))
    )


def _starts_again(machine: Machine, site: Site) -> bool:
    """Whether a call is `main()` by itself, and not one whose result is used."""
    return site.arguments == Arguments() and machine.statement is site.node


def _repeats(machine: Machine, function: Function) -> bool:
    """Whether a call would repeat itself without end: not where everything that led to it is decided."""
    outer = [frame for frame in machine.frames if frame.function is function]
    return bool(outer) and (len(outer) >= MAX_NESTED or len(machine.path) > outer[0].base)


def _takes_data(site: Site) -> bool:
    """Whether all arguments of a call are plain values, lists and dicts."""
    given = (*site.arguments.positional, *(item.value for item in site.arguments.keywords))
    return bool(given) and all(isinstance(item, (Scalar, Sequence, Mapping)) for item in given)


def _is_undecided(found: Object) -> bool:
    return isinstance(found, (Choice, Unknown)) or (isinstance(found, Sequence) and found.elements is None)


ALL_LINEAR = "all-linear"
"""PEFT's word for the names of all linear layers but the output head."""

_WALK = ".named_modules("
_GATHERING = tuple(
    lazy(pattern) for pattern in (r"\b(isinstance|type)\(|__class__", r"Linear", r"\.(add|append)\(|=\s*[\[{]", r"name")
)


@lru_cache(maxsize=64)
def _walks(document: Document) -> bool:
    return _WALK in document.text


def _lists_linear_layers(machine: Machine, function: Function) -> bool:
    """Whether a function gathers the names of a model's linear layers, as scripts for LoRA's targets do.

    It walks the modules, tests their class, and has a word for linear layers; what it gives depends on the model.
    """
    if not _walks(machine.source_of(function.node).document):
        return False
    text = machine.text(function.node)
    return _WALK in text and all(pattern.search(text) for pattern in _GATHERING)


def _result(frame: Frame, flow: Flow, rest: Tests, site: Site) -> Object:
    returns = list(frame.returns)
    if flow is Flow.NEXT:
        returns.append((Scalar(None, None, "computed"), rest))
    if not returns:
        return site.unknown(f"{frame.function.name}() raises")
    return choose(returns)


def _bind(machine: Machine, function: Function, site: Site, scope: Scope, owner: Object | None) -> None:
    parameters = function.node.params
    arguments = site.arguments
    positional = list(arguments.positional)
    if owner is not None:
        positional.insert(0, owner)
    named = {given.name: given for given in arguments.keywords}
    for parameter in (*parameters.posonly_params, *parameters.params):
        name = parameter.name.value
        if positional:
            value = positional.pop(0)
        elif name in named:
            value = named.pop(name).value
        else:
            value = _default(machine, function, parameter, arguments)
        scope.state[name] = value
    for parameter in parameters.kwonly_params:
        name = parameter.name.value
        given = named.pop(name, None)
        scope.state[name] = given.value if given else _default(machine, function, parameter, arguments)
    if isinstance(parameters.star_arg, cst.Param):
        scope.state[parameters.star_arg.name.value] = Sequence.of(tuple(positional), site.place)
    if parameters.star_kwarg is not None:
        slots = {name: Slot(given.name_place, given.value) for name, given in named.items()}
        extra = Mapping({**slots}, site.place)
        if arguments.open:
            extra.state[OPEN] = True
        else:
            for name, value in remaining_options(function, scope.state.keys() | slots.keys()):
                extra.state[name] = Slot(None, value)
        scope.state[parameters.star_kwarg.name.value] = extra


def _default(machine: Machine, function: Function, parameter: cst.Param, arguments: Arguments) -> Object:
    """What a parameter holds that no argument was passed for."""
    name = parameter.name.value
    place = machine.place(parameter.name)
    if arguments.open:
        return Unknown(f"parameter {name} of {function.name}", place)
    setting = command_default(function, name)
    if setting is not None:
        return setting
    if name in function.defaults:
        return function.defaults[name]
    return Unknown(f"parameter {name} of {function.name}", place)

"""Data that a program brings to one length: `group_texts`, datasets of constant length, samples that it cuts itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import libcst as cst
from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.readers.python.choices import options_of
from vramlint.readers.python.freeze import Freezer
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import (
    Class,
    Function,
    Given,
    Instance,
    LibraryObject,
    Mapping,
    Object,
    Partial,
    Scope,
    Slot,
)
from vramlint.text import Place
from vramlint.values import Cut, Scalar, Unknown

_FILTER = ".filter"
_MAPS = (".map", ".with_transform", ".set_transform", _FILTER)
"""Methods of datasets that take a function of samples."""

_STEPS = lazy(
    r"for (?P<i>\w+) in range\(\s*0\s*,[^:\[\]]+?,\s*(?P<n>[\w.]+)\s*,?\s*\)"
    r"|\.(?:view|reshape)\(\s*-1\s*,\s*(?P<m>[\w.]+)\s*\)"
)
"""Steps through joined tokens, or rows made of them at once."""
_ENDS = lazy(r"\[\s*:\s*(?P<n>[A-Za-z_][\w.]*)\s*\]|(?P<m>[A-Za-z_][\w.]*) - len\(")
"""The head of a sample, or how much it lacks."""
_TRUNCATED = lazy(r"\bmax_length\s*=\s*(?P<n>self\.\w+)")
"""The bound by which a method of such a class has its tokenizer truncate texts."""
_DATA = lazy("Dataset|Collat")
"""Classes of the files that hold samples or put them together."""
_KEPT = lazy(r"len\([^()]*(?:input_ids|tokens)[^()]*\)\s*<=?\s*(?P<n>[A-Za-z_][\w.]*|\d+)")
"""The longest samples that a filter keeps."""
_SIDE = lazy(r"source|target|prompt|answer|response|completion|input_len|context", re.IGNORECASE)
"""Words in the name of the length of a sample's part."""
_TAKEN = lazy(r"\[\s*:\s*(?P<n>[A-Za-z_][\w.]*)\s*\].*?\[\s*(?P=n)\s*:\s*\]")
"""A buffer that rows are taken from the front of."""
_LENGTH = lazy(r"block|seq|context|ctx|chunk|window|max_?len|cutoff|max_length", re.IGNORECASE)
"""Words in the name of a row's length, none of which a batch of texts has."""
_JOINED = lazy(r"chain\(|\+=|\.extend\(|sum\(|concat|\.join\(|\bcat\(")
"""What joins samples before they are cut."""


class _Use(Struct, frozen=True):
    """A function of the files that works on data, and where it is handed over."""

    function: Function
    named: dict[str, Object]
    """What its parameters hold."""
    owner: Instance | LibraryObject | None
    conditions: tuple[str, ...]
    filters: bool = False
    """It says which samples to keep."""


def cuts(machine: Machine, freezer: Freezer) -> tuple[Cut, ...]:
    """Where the program brings tokens to one length, in the order of its calls."""
    found: dict[Place, Cut] = {}
    for use in (*_mapped(machine), *_of_datasets(machine)):
        if not machine.whole(use.function):
            continue
        node = use.function.node
        text, place = machine.text(node), machine.place(node.name if isinstance(node, cst.FunctionDef) else node)
        row = "" if use.filters else _row(text)
        for name in (row,) if row else _kept(text) if use.filters else _ends(text):
            length = Scalar(int(name), place) if name.isdecimal() else _held(machine, use, name)
            if length is None or isinstance(length, Unknown):
                length = Unknown(f"value of {name}", place)
            elif not row and not isinstance(length, Scalar):
                continue
            cut = Cut(freezer.value(length), place, bool(row), use.conditions, mapped=use.owner is None)
            found.setdefault(place, cut)
        for bound in () if place in found else _truncated(machine, use, text):
            where = bound.place or place
            found.setdefault(where, Cut(freezer.value(bound), where, False, use.conditions, mapped=False))
    return tuple(found.values())


def _truncated(machine: Machine, use: _Use, text: str) -> list[Scalar]:
    """The bounds by which a method truncates texts, a query's and a passage's, where its object holds them all."""
    if use.owner is None or not re.search(r"truncation\s*=\s*True", text):
        return []
    names = dict.fromkeys(match["n"] for match in _TRUNCATED.finditer(text) if not _SIDE.search(match["n"]))
    held = [_held(machine, use, name) for name in names]
    bounds = [item for item in held if isinstance(item, Scalar) and isinstance(item.value, int)]
    return bounds if len(bounds) == len(held) else []


@lru_cache(maxsize=256)
def _row(text: str) -> str:
    """What a function calls the length of the rows that it cuts from joined samples; empty where it cuts none."""
    for match in _STEPS.finditer(text):
        name: str = match["n"] or match["m"]
        step = rf"\[\s*{match['i']}\s*:\s*{match['i']}\s*\+\s*{re.escape(name)}\s*\]"
        if re.search(rf"\b{re.escape(name)}\s*=\s*(?:int\(|max\(|min\()?\s*len\(", text):
            continue  # a part of the one sample, as those that are shuffled
        if _LENGTH.search(name) and _JOINED.search(text) and (match["m"] or re.search(step, text)):
            return name
    taken = _TAKEN.search(text)
    return taken["n"] if taken and _LENGTH.search(taken["n"]) and "while " in text else ""


@lru_cache(maxsize=256)
def _kept(text: str) -> tuple[str, ...]:
    """What a filter calls the length up to which it keeps samples, or its digits."""
    return tuple(dict.fromkeys(match["n"] for match in _KEPT.finditer(text)))


@lru_cache(maxsize=256)
def _ends(text: str) -> tuple[str, ...]:
    """What a function calls the length to which it cuts or fills single samples."""
    names = (match["n"] or match["m"] for match in _ENDS.finditer(text))
    return tuple(dict.fromkeys(name for name in names if _LENGTH.search(name) and not _SIDE.search(name)))


def _calls(machine: Machine) -> list[LibraryObject]:
    """The calls that training hangs on: where the program itself trains, not those of functions that nothing calls."""
    own = machine.calls[: machine.called]
    return own if any("Trainer" in call.callee or call.callee.endswith("backward") for call in own) else machine.calls


def _mapped(machine: Machine) -> Iterator[_Use]:
    """Functions that datasets are given to work on batches."""
    for call in _calls(machine):
        passed = _passed(call)
        named = _keywords(call.argument("fn_kwargs"))
        for option, tests in options_of(passed) if passed is not None else ():
            conditions = (*call.conditions, *(str(test) for test in tests if not test.silent))
            match option:
                case Function():
                    yield _Use(option, named, None, conditions, call.callee == _FILTER)
                case Partial(target=Function() as function, keywords=keywords):
                    bound = {given.name: given.value for given in keywords}
                    yield _Use(function, named | bound, None, conditions, call.callee == _FILTER)


def _passed(call: LibraryObject) -> Object | None:
    """The function that a data set maps, or by which a loader puts samples together."""
    if call.callee in _MAPS:
        return call.args[0] if call.args else call.argument("function")
    return call.argument("collate_fn") if call.callee.endswith("DataLoader") else None


def run_mapped(machine: Machine, module: Scope) -> None:
    """Run the functions that datasets are given once, with a sample that only run time knows."""
    for call in machine.calls[:]:
        if call.callee not in _MAPS:
            continue
        passed = call.args[0] if call.args else call.argument("function")
        given = tuple(Given(name, value) for name, value in _keywords(call.argument("fn_kwargs")).items())
        for option, _ in options_of(passed) if passed is not None else ():
            function = option.target if isinstance(option, Partial) else option
            if not isinstance(function, Function) or function.called or function.owner is not None:
                continue
            sample = Unknown("a sample of the data", call.place)
            site = Site(option, Arguments((sample,), given), function.node, module, call.place)
            with machine.under(*function.tests):
                mark = machine.journal.mark()
                machine.invoke(site)
                machine.journal.restore_plain(mark)


def _keywords(value: Object | None) -> dict[str, Object]:
    if not isinstance(value, Mapping):
        return {}
    return {key: slot.value for key, slot in value.slots()}


def _of_datasets(machine: Machine) -> Iterator[_Use]:
    """Methods of the objects that the program makes of its own dataset classes."""
    made: list[tuple[Class, Instance | LibraryObject, tuple[str, ...]]] = [
        (call.local_class, call, call.conditions) for call in _calls(machine) if call.local_class is not None
    ]
    made += [(kind, item, ()) for kind in machine.classes for item in kind.instances[:1]]
    seen: set[int] = set()
    for kind, item, conditions in made:
        if id(kind) in seen or not any(map(_DATA.search, (kind.name, *kind.base_names()))):
            continue
        seen.add(id(kind))
        for member in kind.scope.state.values():
            if isinstance(member, Function):
                yield _Use(member, {}, item, conditions)


def _held(machine: Machine, use: _Use, name: str) -> Object | None:
    """What the length is, by the name that the function has for it."""
    first, _, attribute = name.partition(".")
    if attribute:
        return _attribute(use.owner, attribute) if first == "self" else None
    node = use.function.node
    if first in {item.name.value for item in (*node.params.params, *node.params.kwonly_params)}:
        return use.named.get(first, use.function.defaults.get(first))
    written = _assigned(node, first)
    if written is None:
        return use.function.scope.find(first)
    return machine.evaluate(written, use.function.scope) if use.owner is None else None


def _assigned(node: cst.FunctionDef | cst.Lambda, name: str) -> cst.BaseExpression | None:
    """What a function binds a name to at its top; None where it binds none there."""
    body = node.body.body if isinstance(node.body, cst.IndentedBlock) else ()
    for line in body:
        for item in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if isinstance(item, cst.Assign) and any(_is_name(target.target, name) for target in item.targets):
                return item.value
    return None


def _is_name(node: cst.BaseExpression, name: str) -> bool:
    return isinstance(node, cst.Name) and node.value == name


def _attribute(owner: Instance | LibraryObject | None, name: str) -> Object | None:
    held = None if owner is None else owner.state.get(name)
    if isinstance(held, Slot):
        return held.value
    if held is None and isinstance(owner, LibraryObject):
        return next((item.value for item in owner.keywords if item.name == name), None)
    found: Object | None = held
    return found

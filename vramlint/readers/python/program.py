"""From a document to the program that it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import libcst as cst

from vramlint.patterns import lazy
from vramlint.readers.python.calls import invoke
from vramlint.readers.python.choices import choose
from vramlint.readers.python.classes import library_base, takes_fields
from vramlint.readers.python.commandline.decorated import is_chosen
from vramlint.readers.python.commandline.parameters import note_settings
from vramlint.readers.python.commandline.words import start
from vramlint.readers.python.commands import is_command
from vramlint.readers.python.cuts import cuts, run_mapped
from vramlint.readers.python.expressions import EVALUATORS
from vramlint.readers.python.freeze import Freezer
from vramlint.readers.python.lazy import Module, Pending
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.marimo import in_order
from vramlint.readers.python.neighbours import home_of
from vramlint.readers.python.objects import (
    BoundMethod,
    Class,
    Field,
    Function,
    Instance,
    LibraryObject,
    Object,
    Scope,
)
from vramlint.readers.python.reasons import Reasons
from vramlint.readers.python.source import parse
from vramlint.readers.python.statements import execute
from vramlint.text import Document
from vramlint.values import Call, Entry, Invocation, Name, Passed, Plain, Problem, Program, Unknown

Modules = Callable[[str], Document | None]
"""From a module as imported (`fastchat.train.train`, `.arguments`) to the project's file, None where it has none."""


Files = Callable[[str], Document | None]
"""From the path of a data file, as the script or its command line writes it, to that file."""


def no_modules(_: str) -> Document | None:
    """For scripts that stand alone."""
    return None


def read_program(
    document: Document,
    known: Mapping[str, Plain],
    modules: Modules = no_modules,
    invocation: Invocation | None = None,
    files: Files = no_modules,
    chosen: Mapping[str, str] | None = None,
) -> tuple[Program | None, tuple[Problem, ...]]:
    """What a Python file does, worked out without running it.

    Args:
        document: the file.
        known: answers to questions that only the machine or a library version can answer, by source text:
            `torch.cuda.is_bf16_supported()`, `torch.cuda.get_device_capability()[0]` and `[1]`,
            `torch.cuda.device_count()`, `os.environ["WORLD_SIZE"]` (None: not set), and library defaults as
            `transformers.TrainingArguments.fp16`. What is absent is undecided.
        modules: files of the project that the script may import classes of settings from.
        invocation: the command line and environment that the program is started with: parsers take their values
            from it. None: unknown, and every setting has its default.
        files: data files of the project that the script or its command line names. Paths made from `__file__`
            begin with the folder of `document`.
        chosen: of a search over settings one trial, as `Program.searches` names its options. None: any of them.

    Returns:
        The program, or None and the problem that prevented reading it. Never raises on any text.
    """
    source, problem = parse(document)
    if source is None:
        return None, (problem,) if problem else ()
    machine = Machine(source, known, EVALUATORS, execute, invoke, modules, files)
    machine.searches.chosen = chosen or {}
    if invocation is not None:
        start(machine, invocation)
    module = machine.new_scope(None, "module")
    with machine.under():
        machine.execute(in_order(source.module), module)
    _run_uncalled(machine, module)
    return _frozen(machine, module), ()


_SWITCH = lazy(r"(enable|disable|freeze|unfreeze|gradient_checkpointing)_?")
"""Names of methods that only the program itself calls, if anyone."""


def _run_uncalled(machine: Machine, module: Scope) -> None:
    """Evaluate once, with its defaults, every function that nothing in the file called.

    Commands come first: a framework starts them, and they call others with their values.
    """
    machine.finishing, machine.called = True, len(machine.calls)
    run_mapped(machine, module)
    for commands in (True, False):
        index = 0
        while index < len(machine.functions):
            function = machine.functions[index]
            index += 1
            if is_command(function) is commands and not function.called and is_chosen(machine, function):
                _run(machine, function, module)


def _run(machine: Machine, function: Function, module: Scope) -> None:
    if function.owner is not None and _SWITCH.match(function.name):
        return
    if _is_handed_to_skipped_code(machine, function):
        return
    if _is_other_constructor(function):
        return
    if is_command(function) and "argv" not in machine.process:
        note_settings(machine, function)
    named = function.node.name if isinstance(function.node, cst.FunctionDef) else function.node
    site = Site(function, Arguments(), function.node, module, machine.place(named))
    with machine.under(*function.tests):
        owner = _owner(machine, function, site)
        if not function.called:  # making its owner may have called it
            mark = machine.journal.mark()
            machine.trail.spare.add(id(function))
            invoke(machine, site if owner is None else site.of(BoundMethod(function, owner)))
            machine.journal.restore_plain(mark)  # `enable_checkpointing()` that nobody calls enables nothing


def _is_handed_to_skipped_code(machine: Machine, function: Function) -> bool:
    """Whether the file never calls it by name, and only code that settings leave out hands it on to somebody."""
    skipped = (branch.functions for branch in machine.trail.branches.values() if branch is not None)
    if function.owner is not None or not any(function in functions for functions in skipped):
        return False
    text = machine.source_of(function.node).document.text
    return re.search(rf"(?<!def )\b{re.escape(function.name)}\s*\(", text) is None


def _is_other_constructor(function: Function) -> bool:
    """Whether it makes objects, maybe from a checkpoint, of a class of which the program makes them in another way."""
    kind = function.owner
    return kind is not None and kind.last_instance is not None and function.decorated_with("classmethod")


def _owner(machine: Machine, function: Function, site: Site) -> Object | None:
    """An object to call a method on: the last one that the file made of the class, or one made for this."""
    kind = function.owner
    if kind is None or function.decorated_with("staticmethod"):
        return None
    if function.decorated_with("classmethod"):
        return kind
    if kind.last_instance is None:
        kind.last_instance = _stand_in(machine, kind, site)
    return kind.last_instance


def _stand_in(machine: Machine, kind: Class, site: Site) -> Instance | LibraryObject:
    """An object of a class that the file never instantiates. It is no call of the program."""
    base = library_base(kind)
    made: Instance | LibraryObject = (
        Instance(kind, site.place) if base is None else LibraryObject(base, (), (), site.place, local_class=kind)
    )
    kind.last_instance = made
    initialise = kind.member("__init__")
    if isinstance(initialise, Function) and not initialise.called:
        invoke(machine, site.of(BoundMethod(initialise, made)))
    return made


def _frozen(machine: Machine, module: Scope) -> Program:
    reasons = Reasons(machine, module)
    freezer = Freezer(reasons.around)
    calls = [freezer.call(made) for made in machine.calls]
    imported = {*machine.imports, *(name.partition(".")[0] for name in machine.imports)}
    constants = [
        Entry(name, None, freezer.value(item))
        for name, item in module.state.items()
        if not isinstance(item, (Function, Class, Module, Pending))
        and not (isinstance(item, Name) and item.qualified in imported)
    ]
    return Program(
        path=machine.source.document.path,
        calls=tuple(call for call in calls if isinstance(call, Call)),
        imports=tuple(machine.imports),
        constants=tuple(constants),
        settings=tuple(_settings(machine, freezer)),
        cuts=cuts(machine, freezer),
        decisions=tuple(reasons.decisions()),
        passed=tuple(Passed(value, name, tuple(places)) for (value, name), places in machine.trail.passed.items()),
        files=tuple(machine.trail.files.items()),
        searches=tuple(machine.searches.found.items()),
    )


def _settings(machine: Machine, freezer: Freezer) -> list[Entry]:
    """Command-line settings first, then the fields of dataclasses that no parser builds."""
    found: dict[str, Entry] = {}
    for setting in machine.settings:
        found[setting.name] = Entry(setting.name, setting.name_place, freezer.value(setting.value))
    for kind in machine.classes:
        if not takes_fields(kind) or (home_of(kind.scope) is not None and kind.last_instance is None):
            continue
        for entry in kind.fields:
            value = _field_value(kind, entry)
            if value is not None and entry.name not in found:
                found[entry.name] = Entry(entry.name, entry.name_place, freezer.value(value))
    return list(found.values())


def _field_value(kind: Class, entry: Field) -> Object | None:
    """What the objects of a class hold in a field, its default where the program makes none."""
    if not kind.instances:
        return entry.spec.default
    return choose([(made.state.get(entry.name, Unknown(f"field {entry.name}")), ()) for made in kind.instances])

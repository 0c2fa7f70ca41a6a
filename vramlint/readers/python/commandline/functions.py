"""Functions and classes as commands: fire, typer.run, tyro, jsonargparse, simple_parsing."""

from __future__ import annotations

import libcst as cst

from vramlint.readers.python.choices import each
from vramlint.readers.python.classes import construct, required
from vramlint.readers.python.commandline.dataclass_parsers import parse_class
from vramlint.readers.python.commandline.fire import fire_arguments
from vramlint.readers.python.commandline.kinds import convert, guess
from vramlint.readers.python.commandline.options import FLAG, Hit, Reader, Spec
from vramlint.readers.python.commandline.parameters import (
    Parameter,
    merged_arguments,
    note_settings,
    parameters_of,
)
from vramlint.readers.python.commandline.settings_files import settings_file
from vramlint.readers.python.commandline.trees import Manner, build, leaves, manner_of, read_tree_words
from vramlint.readers.python.commandline.words import Words, command_line, spelled, variants
from vramlint.readers.python.commands import command_default
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import (
    BoundMethod,
    Class,
    Function,
    Given,
    LibraryObject,
    Mapping,
    Object,
    Sequence,
)
from vramlint.values import Scalar


def command_line_interface(machine: Machine, site: Site) -> Object:
    """`tyro.cli(Config)`, `simple_parsing.parse(Config)`: one class, or a function with its defaults."""
    target = site.arguments.get("config_class", 0) or site.arguments.get("f")
    words = command_line(machine, site.arguments.get("args"))
    manner = manner_of(getattr(site.callee, "qualified", ""))
    if isinstance(target, Function):
        return run_typed(machine, target, words, site, manner)
    if isinstance(target, Class) and words is not None:
        return class_from_words(machine, target, words, site, manner)
    return (
        site.unknown("command line") if target is None else parse_class(machine, target, site.of(target, Arguments()))
    )


def class_from_words(machine: Machine, kind: Class, words: Words, site: Site, manner: Manner) -> Object:
    """A dataclass by dotted flags."""
    return build(machine, kind, read_tree_words(machine, leaves(machine, kind), words, manner), site)


def run_target(machine: Machine, site: Site) -> Object:
    """`fire.Fire(target)`, `typer.run(target)`: the function that the command line starts, or every one that it may."""
    target = site.arguments.get("component", 0) or site.arguments.get("components")
    words = command_line(machine, site.arguments.get("command", 1) or site.arguments.get("args"))
    named = _targets(machine, target)
    typed = not getattr(site.callee, "qualified", "").startswith("fire")
    if words is not None and words and not isinstance(target, (Function, Class)):
        chosen = named.get(spelled(words[0]).replace("-", "_"))
        if chosen is not None:
            for item in named.values():
                if isinstance(item, Function) and item is not chosen:
                    item.called += 1  # another command is no part of this run
            named, words = {"": chosen}, words[1:]
    for item in named.values():
        _start(machine, item, words, site, typed=typed)
    return site.unknown("result of a command")


def _targets(machine: Machine, target: Object | None) -> dict[str, Object]:
    if isinstance(target, Mapping):
        return {key: slot.value for key, slot in target.slots()}
    if isinstance(target, Sequence):
        return {getattr(item, "name", str(index)): item for index, item in enumerate(target.elements or ())}
    if target is None and command_line(machine) is not None:
        return {item.name: item for item in machine.functions if item.owner is None and item.scope.kind == "module"}
    return {} if target is None else {"": target}


def _start(machine: Machine, target: Object, words: Words | None, site: Site, *, typed: bool) -> None:
    manner = manner_of(getattr(site.callee, "qualified", ""))
    if isinstance(target, Function):
        if typed:
            run_typed(machine, target, words, site, manner)
        else:
            run_command(machine, target, site, words)
    elif isinstance(target, Class):
        _run_class(machine, target, words, site)
    elif isinstance(target, BoundMethod):
        arguments = Arguments() if words is None else fire_arguments(target.function, words)
        machine.invoke(site.of(target, arguments))


def _run_class(machine: Machine, kind: Class, words: Words | None, site: Site) -> None:
    """A class as a command: its constructor takes flags, a word names the method."""
    initialise = kind.member("__init__")
    if words is None or not isinstance(initialise, Function):
        construct(machine, kind, site.of(kind, Arguments()))
        return
    method = next((word for word in words if isinstance(kind.member(spelled(word)), Function)), None)
    flags = tuple(word for word in words if word is not method)
    made = construct(machine, kind, site.of(kind, fire_arguments(initialise, flags)))
    member = None if method is None else kind.member(spelled(method))
    if isinstance(member, Function):
        machine.invoke(site.of(BoundMethod(member, made), fire_arguments(member, flags, strict=True)))


def run_command(machine: Machine, function: Function, site: Site, words: Words | None = None) -> Object:
    """Call a function with what fire makes of the words; what has no default must come from the command line."""
    given = Arguments() if words is None else fire_arguments(function, words)
    return _run(machine, function, given, site)


def _run(machine: Machine, function: Function, given: Arguments, site: Site) -> Object:
    names = {item.name for item in given.keywords}
    note_settings(machine, function, {item.name: item.value for item in given.keywords})
    missing = tuple(
        Given(item.name, required(item.name, machine.place(item.node.name)))
        for item in parameters_of(function)
        if item.name not in names
        and item.name not in function.defaults
        and command_default(function, item.name) is None
    )
    return machine.invoke(site.of(function, Arguments((), (*given.keywords, *missing), False)))


def run_typed(machine: Machine, function: Function, words: Words | None, site: Site, manner: Manner) -> Object:
    """Call a function by the annotations of its parameters; one that is a dataclass takes dotted flags."""
    if words is None:
        return run_command(machine, function, site)
    return _run(machine, function, typed_arguments(machine, function, words, site, manner), site)


def typed_arguments(machine: Machine, function: Function, words: Words, site: Site, manner: Manner) -> Arguments:
    """The keywords that words give to a function with annotated parameters."""
    outcomes = [(_typed(machine, function, line, site, manner), tests) for line, tests in variants(words)]
    return merged_arguments(outcomes)


def _typed(machine: Machine, function: Function, words: Words, site: Site, manner: Manner) -> Arguments:
    parameters = parameters_of(function)
    nested: dict[str, Class] = {}
    for item in parameters:
        annotation = item.node.annotation.annotation if item.node.annotation else None
        if isinstance(annotation, (cst.Name, cst.Attribute)):
            found = machine.evaluate(annotation, function.scope)
            if isinstance(found, Class) and found.is_dataclass:
                nested[item.name] = found
    keywords: dict[str, Given] = {}
    for name, kind in nested.items():
        tree = read_tree_words(machine, leaves(machine, kind, f"{name}."), words, manner)
        keywords[name] = Given(name, build(machine, kind, tree, site, f"{name}."))
    plain = [item for item in parameters if item.name not in nested]
    specs = [Spec(item.name, _spellings(function, item), _arity(item)) for item in plain]
    # parameters without a default are positional for typer; others take them by flag, which typer doesn't
    open_places = [item for item in plain if item.name not in function.defaults or _is_argument(function, item)]
    specs += [Spec(f"\0{item.name}", (), "?") for item in open_places]
    specs += [Spec("\0config", manner.config_flags)] if manner.config_flags else []
    parsed = Reader(specs).read(words)
    for hit in (hit for hit in parsed.hits if hit.name == "\0config" and hit.words):
        table = settings_file(machine, hit.words[0])
        for key, slot in table.slots() if table is not None else ():
            keywords.setdefault(key, Given(key, slot.value, slot.key_place))
    by_name = {item.name: item for item in plain}
    for hit in parsed.hits:
        taker = by_name.get(hit.name.removeprefix("\0"))
        if taker is not None:
            before = keywords.get(taker.name)
            value = _joined(before.value if before else None, _typed_value(taker, hit))
            keywords[taker.name] = Given(taker.name, value, hit.flag_place)
    if parsed.loose is not None:
        for item in open_places:
            keywords.setdefault(item.name, Given(item.name, parsed.loose))
    return Arguments((), tuple(keywords.values()))


def _joined(before: Object | None, value: Object) -> Object:
    """A list that is given piece by piece: `--target a --target b`."""
    ours = before.elements if isinstance(before, Sequence) else None
    more = value.elements if isinstance(value, Sequence) else None
    return value if ours is None or more is None else Sequence.of((*ours, *more))


def _is_argument(function: Function, item: Parameter) -> bool:
    """Whether `typer.Argument(...)` makes a parameter positional."""
    default = function.defaults.get(item.name)
    return isinstance(default, LibraryObject) and default.callee == "typer.Argument"


def _spellings(function: Function, item: Parameter) -> tuple[str, ...]:
    default = function.defaults.get(item.name)
    if isinstance(default, LibraryObject) and default.callee == "typer.Option":
        texts = [str(one.value) for one in default.args if isinstance(one, Scalar)]
        written = tuple(flag for text in texts if text.startswith("-") for flag in text.split("/"))
        if written:
            return written
    names = dict.fromkeys((item.name, item.name.replace("_", "-")))
    flags = [f"--{name}" for name in names]
    if item.kind.is_flag:
        flags += [f"--no-{name}" for name in names] + [f"--no_{item.name}"]
    return tuple(flags)


def _arity(item: Parameter) -> str | None:
    return "*" if item.kind.many else FLAG if item.kind.is_flag else None


def _typed_value(item: Parameter, hit: Hit) -> Object:
    if not hit.words:
        plain = hit.flag[2:].replace("-", "_") == item.name
        return Scalar(plain, hit.flag_place, hit.flag_word.via if isinstance(hit.flag_word, Scalar) else "cli")
    if item.kind.many:
        return Sequence.of(tuple(convert(word, item.kind, item.name) for word in hit.words))
    if not item.kind.names:
        return each(lambda one: guess(one) if isinstance(one, Scalar) else one, hit.words[0])
    return convert(hit.words[0], item.kind, item.name)

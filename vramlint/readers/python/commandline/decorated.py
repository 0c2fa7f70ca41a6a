"""Functions that a decorator makes commands: click, typer, draccus, hydra."""

from __future__ import annotations

from vramlint.readers.python.commandline.functions import class_from_words, typed_arguments
from vramlint.readers.python.commandline.given import typed
from vramlint.readers.python.commandline.hydra_configs import hydra_config, is_hydra_main
from vramlint.readers.python.commandline.kinds import Kind, convert
from vramlint.readers.python.commandline.options import Hit, Reader, Spec
from vramlint.readers.python.commandline.parameters import merged_arguments, note_settings, parameters_of
from vramlint.readers.python.commandline.trees import DRACCUS, TYRO
from vramlint.readers.python.commandline.words import Words, command_line, relocated, spelled, variants
from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import (
    Class,
    Function,
    Given,
    LibraryObject,
    Object,
    Sequence,
    decorator_name,
)
from vramlint.values import Name, Scalar, Unknown

_WRAPPERS = frozenset({"draccus.wrap", "pyrallis.wrap"})


def started(machine: Machine, function: Function, site: Site) -> Site:
    """The call of a command without arguments, with those that the command line gives it."""
    if not function.decorators or site.arguments.positional or site.arguments.keywords:
        return site
    if is_hydra_main(function):
        config = hydra_config(machine, function, site)
        return site if config is None else site.of(function, Arguments((config,)))
    words = command_line(machine)
    if words is None:
        if function.decorated_with("command"):
            note_settings(machine, function)
        return site
    if any(decorator_name(item) in _WRAPPERS for item in function.decorators):
        return _wrapped(machine, function, words, site)
    if not function.decorated_with("command", "call_parse"):
        return site
    _, words = _command_words(machine, words)
    clicked = [item for item in function.decorators if _is_option(item)]
    if clicked:
        outcomes = [(_click(machine, clicked, line, site), tests) for line, tests in variants(words)]
        arguments = merged_arguments(outcomes)
    else:
        arguments = typed_arguments(machine, function, words, site, TYRO)
    note_settings(machine, function, {item.name: item.value for item in arguments.keywords})
    return site.of(function, arguments)


def is_chosen(machine: Machine, function: Function) -> bool:
    """Whether a command line that names another of several commands leaves this one out."""
    words = command_line(machine)
    if words is None or not function.decorated_with("command"):
        return True
    chosen, _ = _command_words(machine, words)
    return chosen is None or chosen is function


def _command_words(machine: Machine, words: Words) -> tuple[Function | None, Words]:
    """The command that a word names where there are several, and the words behind it."""
    commands = {_name_of(item): item for item in machine.functions if item.decorated_with("command")}
    if len(commands) < 2:
        return None, words
    for index, word in enumerate(words):
        if spelled(word) in commands:
            return commands[spelled(word)], words[index + 1 :]
    return None, words


def _name_of(function: Function) -> str:
    for item in function.decorators:
        if isinstance(item, LibraryObject) and decorator_name(item).endswith("command"):
            named = item.argument("name") or (item.args[0] if item.args else None)
            if isinstance(named, Scalar) and named.value:
                return str(named.value)
    return function.name.replace("_", "-")


def _wrapped(machine: Machine, function: Function, words: Words, site: Site) -> Site:
    """`@draccus.wrap()`: the first parameter is a dataclass by its annotation."""
    parameters = parameters_of(function)
    annotation = parameters[0].node.annotation if parameters else None
    kind = None if annotation is None else machine.evaluate(annotation.annotation, function.scope)
    if not isinstance(kind, Class):
        return site
    return site.of(function, Arguments((class_from_words(machine, kind, words, site, DRACCUS),)))


def _is_option(item: Object) -> bool:
    return isinstance(item, LibraryObject) and decorator_name(item).endswith((".option", ".argument"))


class _ClickOption:
    """A click decorator: how it is spelled and what its value becomes."""

    def __init__(self, decorator: LibraryObject) -> None:
        texts = [item.value for item in decorator.args if isinstance(item, Scalar) and isinstance(item.value, str)]
        pairs = [text.split("/") for text in texts if text.startswith("-")]
        self.decorator = decorator
        self.on = tuple(pair[0].strip() for pair in pairs)
        self.off = tuple(pair[1].strip() for pair in pairs if len(pair) > 1)
        plain = [text for text in texts if not text.startswith("-")]
        long = [flag for flag in self.on if flag.startswith("--")] or list(self.on)
        self.name = (plain[-1] if plain else (long or [""])[0].lstrip("-")).replace("-", "_").lower()

    def _said(self, name: str) -> object:
        found = self.decorator.argument(name)
        return found.value if isinstance(found, Scalar) else None

    @property
    def bare(self) -> bool:
        """Whether it takes no value."""
        return bool(self._said("is_flag")) or bool(self.off) or bool(self._said("count")) or self._has_flag_value

    @property
    def _has_flag_value(self) -> bool:
        return self.decorator.argument("flag_value") is not None

    def spec(self) -> Spec:
        """How the words fall to it."""
        count = self._said("nargs")
        number = count if isinstance(count, int) and not isinstance(count, bool) else None
        arity: str | int | None = 0 if self.bare else number
        return Spec(self.name, (*self.on, *self.off), "*" if arity == -1 else arity)

    def value(self, machine: Machine, hit: Hit, before: Object | None, site: Site) -> Object:
        """What one mention makes of it."""
        if not hit.words:
            flag_value = self.decorator.argument("flag_value")
            if flag_value is not None and hit.flag_word is not None:
                return relocated(flag_value, hit.flag_word)
            via = hit.flag_word.via if isinstance(hit.flag_word, Scalar) else "cli"
            return Scalar(hit.flag not in self.off, hit.flag_place, via)
        values = tuple(self._typed(machine, word, site) for word in hit.words)
        if self._said("multiple"):
            held = before.elements if isinstance(before, Sequence) else None
            return Sequence.of((*(held or ()), *values))
        return Sequence.of(values) if self._said("nargs") not in (None, 1) else values[0]

    def _typed(self, machine: Machine, word: Object, site: Site) -> Object:
        kind = self.decorator.argument("type")
        default = self.decorator.argument("default")
        named = kind.qualified.rpartition(".")[2].lower() if isinstance(kind, Name) else ""
        if kind is None and isinstance(default, Scalar) and default.value is not None:
            named = type(default.value).__name__
        if isinstance(kind, LibraryObject) and kind.callee.endswith(("IntRange", "FloatRange")):
            named = "int" if kind.callee.endswith("IntRange") else "float"
        known = {"int": "int", "float": "float", "bool": "bool", "boolean": "bool"}.get(named)
        if known is not None:
            return convert(word, Kind((known,)), self.name)
        return typed(machine, word, kind, self.name, site)


def _click(machine: Machine, decorators: list[Object], words: Words, site: Site) -> Arguments:
    options = [_ClickOption(item) for item in decorators if isinstance(item, LibraryObject)]
    by_name = {option.name: option for option in options}
    parsed = Reader([option.spec() for option in options]).read(words)
    keywords: dict[str, Given] = {}
    for hit in parsed.hits:
        option = by_name[hit.name]
        before = keywords[hit.name].value if hit.name in keywords else None
        keywords[hit.name] = Given(hit.name, option.value(machine, hit, before, site), hit.flag_place)
    hidden = parsed.loose
    for option in options if hidden is not None else ():
        must = option.decorator.argument("required")
        demanded = decorator_name(option.decorator).endswith(".argument") or (isinstance(must, Scalar) and must.value)
        if demanded and option.name not in keywords and isinstance(hidden, Unknown):
            keywords[option.name] = Given(option.name, hidden)
    return Arguments((), tuple(keywords.values()))

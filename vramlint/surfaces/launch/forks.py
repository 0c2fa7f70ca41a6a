"""Undecided branches among the words of a launcher: one command line for each, joined where they start the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from vramlint.facts import Fact
from vramlint.surfaces.draft import under, united
from vramlint.surfaces.launch.launch import Launch
from vramlint.surfaces.launch.words import Line, Word
from vramlint.values import Alternatives, Items

_MOST = 8
"""Command lines that one command may become."""


def lines_of(line: Line) -> list[tuple[Line, str]]:
    """The command lines that a launcher with words such as `$ARGS` may be, where a branch decides on several words.

    Only words in front of the program count; what stands behind it the program reads. Each comes with its condition.
    """
    found: list[tuple[Line, str]] = [((), "")]
    for index, word in enumerate(line):
        if _is_program(line, index):
            return [((*words, *line[index:]), condition) for words, condition in found]
        options = list(_options(word))
        if len(found) * len(options) > _MOST:
            options = [((word,), "")]
        found = [
            ((*words, *more), " and ".join(filter(None, (condition, added))))
            for words, condition in found
            for more, added in options
        ]
    return found if _is_short(line) else [(line, "")]


def _is_program(line: Line, index: int) -> bool:
    return index > 0 and (line[index].program.endswith(".py") or line[index - 1].text in ("-m", "--module"))


def _is_short(line: Line) -> bool:
    """Whether nothing but the head branches, in a line that names no script."""
    return not any(_branches(word) for word in line[2:])


def _branches(word: Word) -> bool:
    value = word.value
    return isinstance(value, Alternatives) and any(isinstance(option.value, Items) for option in value.options)


def _options(word: Word) -> Iterator[tuple[Line, str]]:
    if not _branches(word) or not isinstance(word.value, Alternatives):
        yield (word,), ""
        return
    for option in word.value.options:
        values = option.value.values if isinstance(option.value, Items) else (option.value,)
        yield tuple([Word(value, word.place) for value in values]), option.condition


def rejoined(found: Sequence[tuple[Launch, str]]) -> tuple[Launch, ...]:
    """Launches of the same program with the same arguments as one, whose facts have the values of all."""
    groups: dict[object, list[tuple[Launch, str]]] = {}
    for launch, condition in found:
        key = (launch.kind, launch.program, launch.invocation.arguments, launch.links, launch.tables)
        groups.setdefault(key, []).append((launch, condition))
    return tuple([_joined(group) for group in groups.values()])


def _joined(group: list[tuple[Launch, str]]) -> Launch:
    first, condition = group[0]
    if len(group) == 1:
        conditions = (*first.command.conditions, condition) if condition else first.command.conditions
        return replace(first, command=replace(first.command, conditions=conditions))
    names = dict.fromkeys(fact.name for launch, _ in group for fact in launch.facts)
    facts: list[Fact] = []
    for name in names:
        said = [(next((fact for fact in launch.facts if fact.name == name), None), text) for launch, text in group]
        fact = united(under(item, text) for item, text in said)
        facts += [fact] if fact is not None else []
    return replace(first, facts=tuple(facts))

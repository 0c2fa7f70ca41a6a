"""What fire makes of words for a function."""

from __future__ import annotations

from vramlint.readers.python.commandline.kinds import parsed_literal
from vramlint.readers.python.commandline.options import Hit, Reader
from vramlint.readers.python.commandline.parameters import merged_arguments, parameters_of
from vramlint.readers.python.commandline.words import Words, is_flag, is_loose, spelled, variants
from vramlint.readers.python.machine import Arguments
from vramlint.readers.python.objects import Function, Given, Object
from vramlint.values import Scalar, Unknown


def fire_arguments(function: Function, words: Words, *, strict: bool = False) -> Arguments:
    """What fire makes of words for a function (fire 0.7, core.py, _ParseFn). `strict` drops what it doesn't have."""
    return merged_arguments([(_fire(function, line, strict=strict), tests) for line, tests in variants(words)])


def _fire(function: Function, words: Words, *, strict: bool) -> Arguments:
    parameters = parameters_of(function)
    names = {item.name for item in parameters}
    takes_more = function.node.params.star_kwarg is not None
    keywords: dict[str, Given] = {}
    free: list[Object] = []
    hidden: Unknown | None = None
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if not is_flag(word):
            if is_loose(word) and isinstance(word, Unknown):
                hidden = hidden or word
            elif spelled(word) != "-":
                free.append(word)
            continue
        parsed = Reader((), swallows=False).read((word,))
        hit = parsed.strangers[0] if parsed.strangers else Hit(spelled(word).lstrip("-"), (), spelled(word), word)
        name = _fire_name(hit.name.replace("-", "_"), names)
        value: Object
        if hit.words:
            value = parsed_literal(hit.words[0])
        elif index < len(words) and not is_flag(words[index]) and not _negates(name, names):
            value, index = parsed_literal(words[index]), index + 1
        else:
            via = word.via if isinstance(word, Scalar) else "cli"
            value = Scalar(not _negates(name, names), hit.flag_place, via)
            name = name.removeprefix("no") if _negates(name, names) else name
        if name in names or (takes_more and not strict):
            keywords[name] = Given(name, value, hit.flag_place)
    for item, word in zip((item for item in parameters if item.name not in keywords), free, strict=False):
        if not strict:
            keywords[item.name] = Given(item.name, parsed_literal(word))
    if hidden is not None:
        for item in parameters:
            if item.name not in keywords and item.name not in function.defaults:
                keywords[item.name] = Given(item.name, hidden)
    return Arguments((), tuple(keywords.values()))


def _fire_name(name: str, names: set[str]) -> str:
    """A single letter stands for the only parameter that begins with it."""
    fitting = [full for full in names if full.startswith(name)] if len(name) == 1 and name not in names else []
    return fitting[0] if len(fitting) == 1 else name


def _negates(name: str, names: set[str]) -> bool:
    return name not in names and name.startswith("no") and name[2:] in names

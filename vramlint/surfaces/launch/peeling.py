"""Peeling wrappers and launchers off a command line, one after the other, down to the program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from vramlint.surfaces.launch import grammars
from vramlint.surfaces.launch.clis import CLIS
from vramlint.surfaces.launch.clusters import srun
from vramlint.surfaces.launch.counts import count, opened
from vramlint.surfaces.launch.nested import lines_of_text, texts
from vramlint.surfaces.launch.programs import is_python, module, python, script, tool
from vramlint.surfaces.launch.ranks import NODES, PER_NODE, WORLD
from vramlint.surfaces.launch.road import Ranks, Road, assignment
from vramlint.surfaces.launch.starters import STARTERS, Starter
from vramlint.surfaces.launch.words import Line, Word, after, grammar, looks_like_program, named, parse
from vramlint.surfaces.launch.wrappers import WRAPPERS, peel
from vramlint.surfaces.numbers import times
from vramlint.values import Scalar, Unknown

_DEEPEST = 16
"""Wrappers around wrappers; more are no command that anybody writes."""

_Row = TypeVar("_Row")


def roads(road: Road, depth: int = 0) -> Iterator[Road]:
    """The ends of a command line: none where it starts nothing that may train, several where a text holds several."""
    road = _assigned(road)
    line = road.line
    if not line or depth > _DEEPEST:
        return
    first = line[0]
    name = named(first)
    if looks_like_program(first.program) and first.text is None:
        yield from script(road, line, first)
    elif first.text is None:
        yield from _guessed(road)
    elif is_python(first):
        for step in python(road):
            yield from _on(step, depth)
    elif name == "env":
        yield from roads(road._replace(line=parse(line[1:], _ENV).rest), depth + 1)
    elif name == "sbatch":
        yield from _batch(road, depth)
    elif name == "torchx":
        yield from _torchx(road)
    elif (found := _row(STARTERS, line)) is not None:
        yield from _started(*found, road, depth)
    elif (wrapper := _row(WRAPPERS, line)) is not None:
        peeled = peel(wrapper[1], road, wrapper[0])
        yield from roads(peeled, depth + 1) if peeled is not None else ()
    elif name in CLIS:
        yield from tool(road, line, name)
    elif name.endswith(".py"):
        yield from script(road, line, first)
    else:
        yield from _texts(road, depth)


_ENV = grammar("u unset C chdir S", "i ignore_environment 0 null v")


def _assigned(road: Road) -> Road:
    """Without the assignments `NAME=value` at the head."""
    line, environment = road.line, road.environment
    while line and (entry := assignment(line[0])) is not None:
        line, environment = line[1:], (*environment, entry)
    return road._replace(line=(_placed(line[0]), *line[1:]) if line else line, environment=environment)


def _placed(word: Word) -> Word:
    """A program whose folder only run time knows, as the program: `$HOME/.local/bin/accelerate`."""
    value = word.value
    name = value.suffix.rpartition("/")[2] if isinstance(value, Unknown) and "/" in value.suffix else ""
    known = Word(Scalar(name, word.place, "shell"), word.place)
    return known if name and (is_python(known) or name in CLIS or name in _PROGRAMS) else word


_PROGRAMS = frozenset(row.partition(" ")[0] for row in (*STARTERS, *WRAPPERS))


def _on(step: Road, depth: int) -> Iterator[Road]:
    if step.program is None:
        yield from roads(step, depth + 1)
        return
    inner = _handed_on(step.program.arguments)
    yield from roads(step._replace(line=inner, program=None, launcher=None), depth + 1) if inner else (step,)


def _handed_on(line: Line) -> Line:
    """The command behind the `--` of a program that hands jobs on: `submit.py --gpus 8 -- torchrun train.py`."""
    at = next((index for index, word in enumerate(line) if word.text == "--"), len(line))
    rest = line[at + 1 :]
    return rest if rest and _is_start(rest) else ()


def _row(table: Mapping[str, _Row], line: Line) -> tuple[_Row, Line] | None:
    """The row of a table for the program and its subcommands at the head of `line`, and what stands behind them."""
    words = [named(line[0]), *[word.text or "" for word in line[1:3]]]
    for number in range(len(words), 0, -1):
        row = table.get(" ".join(words[:number]))
        if row is not None:
            return row, line[number:]
    return None


def _started(starter: Starter, line: Line, road: Road, depth: int) -> Iterator[Road]:
    first = road.line[0]
    parsed = parse(line, starter.options)
    road = starter.effect(parsed, road._replace(launcher=(starter.name, first)))
    rest = parsed.rest
    if not rest:
        return
    if starter.command or (parsed.given(*starter.direct) and rest[0].text is not None):
        yield from roads(road._replace(line=rest), depth + 1)
        return
    rest = _divided(rest)
    if parsed.given(*starter.module):
        yield from module(road, rest)
    elif is_python(rest[0]) or named(rest[0]) in CLIS:
        yield from roads(road._replace(line=rest), depth + 1)
    else:
        yield from script(road, rest)


def _divided(line: Line) -> Line:
    """Without the `--` behind the program, which the launchers' own argparse takes away."""
    return (line[0], *line[2:]) if len(line) > 1 and line[1].text == "--" else line


def _texts(road: Road, depth: int) -> Iterator[Road]:
    """Commands in the text of a word, or behind the `--` of a program that hands jobs on."""
    line = road.line
    for text in texts(line):
        for inner in lines_of_text(text):
            yield from roads(road._replace(line=inner), depth + 1)
        return
    inner = _handed_on(line)
    if inner:
        yield from roads(road._replace(line=inner), depth + 1)


def _is_start(line: Line) -> bool:
    return is_python(line[0]) or _row(STARTERS, line) is not None or _row(WRAPPERS, line) is not None


def _guessed(road: Road) -> Iterator[Road]:
    """A command whose program only run time knows: it may be a launcher with options."""
    line = road.line
    unseen = line[0]
    for index, word in enumerate(line[1:], 1):
        found: Iterator[Road]
        if is_python(word) or _row(STARTERS, line[index:]) is not None:
            found = roads(road._replace(line=line[index:]), _DEEPEST - 2)
        elif word.text == "-m" and index + 1 < len(line):
            found = module(_unsure(road, unseen), line[index + 1 :])
        elif looks_like_program(word.program):
            found = script(_unsure(road, unseen), line[index:])
        else:
            continue
        yield from found
        return


def _unsure(road: Road, unseen: Word) -> Road:
    ranks = Ranks(*(opened(name, unseen, "") for name in (WORLD, PER_NODE, NODES)))
    return road if road.ranks is not None else road._replace(ranks=ranks)


def _batch(road: Road, depth: int) -> Iterator[Road]:
    """`sbatch --wrap "…"`; what other scripts it submits are files of their own."""
    parsed = parse(road.line[1:], grammars.SRUN)
    text = parsed.options.get("wrap")
    if text is None:
        return
    road = srun(parsed, road)._replace(ranks=None)
    for line in lines_of_text(text):
        yield from roads(road._replace(line=line), depth + 1)


def _torchx(road: Road) -> Iterator[Road]:
    """`torchx run … dist.ddp -j 2x8 --script train.py -- arguments`."""
    line = road.line
    component = next((index for index, word in enumerate(line) if word.text == "dist.ddp"), None)
    if component is None:
        return
    parsed = parse(line[component + 1 :], grammars.DIST_DDP, inner=False)
    program = parsed.given("script", "m")
    if program is None:
        return
    road = road._replace(launcher=("torchx", line[0]))
    shape = parsed.options.get("j")
    if shape is not None and "x" in (shape.text or ""):
        text = shape.text or ""
        machines, _, _ = text.partition("x")
        each = count(PER_NODE, after(shape, len(machines) + 1), "-j")
        nodes = count(NODES, shape, "-j", lambda text: (int(text.split("x")[0]),) if text[:1].isdigit() else text)
        road = road._replace(ranks=Ranks(times(WORLD, each, nodes), each, nodes))
    start = (program[1], *parsed.rest)
    yield from module(road, start) if program[0] == "m" else script(road, start)

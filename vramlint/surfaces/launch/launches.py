"""From the commands of a workload to the training programs that they start."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vramlint.facts import Fact, seconded
from vramlint.surfaces.draft import options, unknown
from vramlint.surfaces.environment import allocator_of_variables
from vramlint.surfaces.launch.accelerate_flags import flags_table
from vramlint.surfaces.launch.counts import stated_at
from vramlint.surfaces.launch.forks import lines_of, rejoined
from vramlint.surfaces.launch.launch import Launch, Workload
from vramlint.surfaces.launch.peeling import roads
from vramlint.surfaces.launch.ranks import HOST_MEMORY, NODES, PER_NODE, WORLD
from vramlint.surfaces.launch.road import Program, Ranks, Road
from vramlint.surfaces.launch.words import Word, line_of, values_of
from vramlint.surfaces.numbers import by_default, renamed, times
from vramlint.values import Command, Invocation, Table, Unknown


def launches(workload: Workload) -> tuple[Launch, ...]:
    """The starts of Python programs and training tools among the commands of a workload, in their order.

    A command that starts none (mkdir, pip, a server, an evaluation) gives none; one whose script is one of several
    by an undecided branch, or a text with several commands (`bash -c "…"`), gives several.
    """
    declared = {fact.name: fact for fact in workload.facts}
    found: list[Launch] = []
    for command in workload.commands:
        start = Road(
            environment=command.environment,
            visible=declared.get(PER_NODE),
            nodes=declared.get(NODES),
            world=declared.get(WORLD),
            gpu=declared.get("gpu"),
        )
        found += rejoined(
            [
                (launch, condition)
                for line, condition in lines_of(line_of(command))
                for road in roads(start._replace(line=line))
                if road.program is not None
                for launch in _launches(road, road.program, command, declared.get(HOST_MEMORY))
            ]
        )
    return tuple(found)


def _launches(road: Road, program: Program, command: Command, memory: Fact | None) -> Iterator[Launch]:
    """One launch for each program that an undecided branch may choose."""
    for option in options(program.word.value):
        word = Word(option.value, program.word.place)
        several = len(options(program.word.value)) > 1
        name = (word.text or "") if several else program.name
        conditions = (*command.conditions, option.condition) if option.condition else command.conditions
        yield Launch(
            kind=program.kind,
            program=name,
            invocation=Invocation(values_of(program.arguments), road.environment, command.place),
            command=replace(command, conditions=conditions),
            program_place=word.written,
            facts=(*_facts(road, name, word), *((memory,) if memory is not None else ())),
            links=road.links,
            tables=_tables(road),
        )


def _facts(road: Road, name: str, word: Word) -> Iterator[Fact]:
    if name:
        yield stated_at("entry", name, word.written, "")
    else:
        value = word.value
        reason = value.reason if isinstance(value, Unknown) else "computed at run time"
        yield unknown("entry", reason, place=word.place)
    if road.launcher is not None:
        launcher, at = road.launcher
        yield stated_at("launcher", launcher, at.written, "")
    ranks = road.ranks or _alone(road)
    machine = (ranks.world, ranks.nodes, ranks.per_node, road.gpu)
    for fact in (*machine, road.configuration, allocator_of_variables(road.environment)):
        if isinstance(fact, Fact):
            yield seconded(fact, road.granted()) if fact.name in (WORLD, PER_NODE) else fact


def _alone(road: Road) -> Ranks:
    """Of one process that uses the GPUs that it sees, where somebody says how many those are."""
    visible = road.granted()
    if visible is None:
        return Ranks(road.world, None, road.nodes)
    each = renamed(visible, PER_NODE)
    machines = road.nodes or by_default(NODES, 1, "nothing asks for several machines")
    return Ranks(times(WORLD, each, machines), each, road.nodes)


def _tables(road: Road) -> tuple[tuple[str, Table], ...]:
    """The configuration that the variables of accelerate spell, for programs that no `accelerate launch` starts."""
    if any(name == "accelerate" for name, _ in road.tables) or not any(map(road.variable, _SWITCHES)):
        return road.tables
    table = flags_table(None, road.environment)
    return (*road.tables, ("accelerate", table)) if table is not None else road.tables


_SWITCHES = (
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_MEGATRON_LM",
)
"""Variables without which accelerate reads none of the others."""

"""How many processes there are: what launchers of every kind share."""

from __future__ import annotations

from vramlint.facts import Fact
from vramlint.surfaces.draft import unknown
from vramlint.surfaces.launch.road import Ranks, Road
from vramlint.surfaces.launch.words import Word
from vramlint.surfaces.numbers import by_default, divided, renamed, times

WORLD, NODES, PER_NODE = "world_size", "nodes", "gpus_per_node"
HOST_MEMORY = "host_memory"
"""What a job may take of the memory of one machine, bytes."""


def is_scheduled(fact: Fact) -> bool:
    """Whether a number is left to the scheduler, in a variable that it sets."""
    return not fact.candidates and any(word in fact.reason for word in ("SLURM_", "PBS_", "SKYPILOT_", "OMPI_"))


def scheduled(found: Fact, road: Road) -> Fact:
    """A number of machines; the scheduler's own where the launcher takes it from a variable of the scheduler."""
    return renamed(road.nodes, NODES) if road.nodes is not None and is_scheduled(found) else found


def every_visible(road: Road, who: str, key: str, word: Word | None) -> Fact:
    """All GPUs that a launcher finds, where somebody says how many those are."""
    granted = road.granted()
    if granted is not None:
        return renamed(granted, PER_NODE)
    return unknown(PER_NODE, f"{who} uses every visible GPU", key, word.place if word else None)


def completed(world: Fact | None, per_node: Fact | None, nodes: Fact | None, road: Road) -> Ranks | None:
    """The third of three numbers from the two that are known."""
    if world is None and per_node is None and nodes is None:
        return road.ranks
    if world is None:
        each = per_node or road.granted()
        machines = nodes or by_default(NODES, 1, "nothing asks for several machines")
        return Ranks(times(WORLD, each, machines) if each else None, each, machines)
    if per_node is None and nodes is not None:
        per_node = divided(PER_NODE, world, nodes)
    elif nodes is None and per_node is not None:
        nodes = divided(NODES, world, per_node)
    return Ranks(world, per_node, nodes)

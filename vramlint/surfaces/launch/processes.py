"""The number of processes that a command starts, as edits of the command itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vramlint.facts import Fact, FactValue, Origin
from vramlint.patterns import lazy
from vramlint.text import Document, Edit, Place

Said = tuple[str, tuple[Edit, ...]]

_COUNTED = frozenset(("--nproc_per_node", "--nproc-per-node", "--num_processes", "--num-processes", "--num_gpus"))
"""Options of torchrun (torch 2.13 distributed/run.py), accelerate launch and deepspeed that count the processes of one
machine."""
_PYTHON = lazy(r"python3?(?=[ \t]+(?:-m[ \t]|[^-\s]))")
"""Python before a script or a module, without options of its own, which torchrun does not have."""
_PINNED = "CUDA_VISIBLE_DEVICES"


def write_processes(
    changes: Mapping[str, FactValue], facts: Sequence[Fact], documents: Mapping[str, Document]
) -> Said | None:
    """A process on each of as many GPUs of one machine; None where the command that starts the run cannot say it.

    Args:
        changes: with `world_size`; what else changes is not looked at.
        facts: what the run's files say.
        documents: the files by path.
    """
    wanted = changes.get("world_size")
    by_name = {fact.name: fact for fact in facts}
    said, nodes, launcher = (by_name.get(name) for name in ("world_size", "nodes", "launcher"))
    if isinstance(wanted, bool) or not isinstance(wanted, int) or (nodes is not None and nodes.value != 1):
        return None
    if said is not None and said.origin is Origin.WRITTEN and said.key in _COUNTED:
        return _counted(said, wanted, documents)
    if launcher is not None and launcher.value == "python":
        return _started(launcher, wanted, documents)
    return None


def _counted(fact: Fact, wanted: int, documents: Mapping[str, Document]) -> Said | None:
    """Another number behind the option."""
    place = fact.place
    document = documents.get(place.path) if place else None
    if place is None or document is None or _PINNED in document.text:
        return None
    start = document.offset(place.span.line, place.span.column)
    text = document.slice(place.span)
    head, equals, number = text.rpartition("=")
    if (head and head != fact.key) or number != str(fact.value):
        return None
    start += len(head) + len(equals)
    there = Place(place.path, document.span(start, start + len(number)))
    return f"{fact.key}{equals or ' '}{wanted}", (Edit(there, str(wanted)),)


def _started(launcher: Fact, wanted: int, documents: Mapping[str, Document]) -> Said | None:
    """Another starter in the place of Python: torchrun."""
    place = launcher.place
    document = documents.get(place.path) if place else None
    if place is None or document is None or _PINNED in document.text or place.path.endswith((".py", ".ipynb")):
        return None
    start = document.offset(place.span.line, place.span.column)
    match = _PYTHON.match(document.text, start)
    if match is None:
        return None
    words = f"torchrun --nproc_per_node {wanted}"
    return words, (Edit(Place(place.path, document.span(start, match.end())), words),)

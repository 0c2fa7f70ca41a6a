"""Functions that a library starts in processes of its own: what they are called with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.readers.python.machine import Arguments, Machine, Site
from vramlint.readers.python.objects import BoundMethod, Function, LibraryObject, Object, Partial, Sequence
from vramlint.values import Unknown

_STARTERS: Mapping[str, tuple[str, int | None, bool]] = MappingProxyType(
    {
        "torch.multiprocessing.spawn": ("fn", 0, True),
        "torch.multiprocessing.start_processes": ("fn", 0, True),
        "torch.multiprocessing.Process": ("target", None, False),
        "multiprocessing.Process": ("target", None, False),
        "accelerate.notebook_launcher": ("function", 0, False),
        "accelerate.launchers.notebook_launcher": ("function", 0, False),
        "accelerate.debug_launcher": ("function", 0, False),
    }
)
"""Callee to the parameter with the function, its position, and whether the function gets the rank first."""
_STARTED = (Function, BoundMethod, Partial)


def start(machine: Machine, callee: str, site: Site) -> None:
    """`torch.multiprocessing.spawn(worker, args=(8,), nprocs=8)`: run the function with those arguments."""
    found = _STARTERS.get(callee)
    if found is None:
        return
    name, position, ranked = found
    target = site.arguments.get(name, position)
    given = site.arguments.get("args", None if position is None else position + 1)
    rest = given.elements if isinstance(given, Sequence) else () if given is None else None
    if not isinstance(target, _STARTED):
        return
    rank: tuple[Object, ...] = (Unknown("rank of a process", site.place),) if ranked else ()
    machine.invoke(site.of(target, Arguments((*rank, *(rest or ())), (), open=rest is None)))


def launch(machine: Machine, name: str, fabric: Object, site: Site) -> None:
    """`fabric.launch(main, config)`: run the function with the fabric before its arguments."""
    positional = site.arguments.positional
    if name != "launch" or not isinstance(fabric, LibraryObject) or not fabric.callee.endswith(".Fabric"):
        return
    if not positional or not isinstance(positional[0], _STARTED):
        return
    arguments = Arguments((fabric, *positional[1:]), site.arguments.keywords, site.arguments.open)
    machine.invoke(site.of(positional[0], arguments))

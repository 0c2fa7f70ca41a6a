"""What goes into the core: files as bytes, the outside world as functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from vramlint.api.simulating import Simulator


Done = TypeVar("Done")


class Each(Protocol):
    """Does independent pieces of work, in processes forked from this one or one after the other."""

    def __call__(self, work: Callable[[int], Done], count: int) -> Iterable[Done]:
        """What comes of the pieces 0 to `count`, in their order."""


def in_turn(work: Callable[[int], Done], count: int) -> Iterable[Done]:
    """One piece after the other; see `Each`."""
    return map(work, range(count))


def _no_file(path: str) -> bytes | None:
    return None


def _no_names(folder: str) -> Sequence[str]:
    return ()


def _no_root(path: str) -> str:
    return ""


def _same(path: str) -> str:
    return path


def _any(path: str) -> bool:
    return True


class Hardware(NamedTuple):
    """The machine that the command line declares. It wins over comments and settings."""

    gpu: str = ""
    """`rtx3090`, `h100x8`."""
    gpus_per_node: int | None = None
    nodes: int | None = None
    ram: str = ""
    """Host memory of one machine: `512GiB`."""
    nvme: str = ""


class Surroundings(NamedTuple):
    """What lies around the files."""

    load: Callable[[str], bytes | None] = _no_file
    """The content of a file that another file names; None when there is none or it can't be read."""
    names: Callable[[str], Sequence[str]] = _no_names
    """The names of the files in a folder."""
    root: Callable[[str], str] = _no_root
    """The folder above which no requirements are looked for, by the path of the checked file."""
    hardware: Hardware = Hardware()
    around: Callable[[str], Sequence[str]] = _no_names
    """The paths of the files in the project of a checked file, which may name it; bounded."""
    absolute: Callable[[str], str] = _same
    """A path that tells whether two others are of the same file."""
    thorough: bool = False
    """Work out what no finding depends on too: rules of thumb, and cached segments where there is room to spare."""
    timeline: bool = False
    """Keep the log of the step that needs the most."""
    alone: bool = False
    """Judge a script by itself too where launchers start it, with nothing given on its command line."""
    simulate: Simulator | None = None
    """Simulations to be shared by several calls; None: each call has its own."""
    editable: Callable[[str], bool] = _any
    """Whether a fix may change the file at a path."""
    each: Each = in_turn
    """Judges the files once all of them are read."""

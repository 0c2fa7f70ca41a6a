"""A command line on its way from the outermost wrapper to the program that it starts."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from vramlint.facts import Fact, Link
from vramlint.surfaces.launch.counts import count
from vramlint.surfaces.launch.words import Line, Word, after
from vramlint.surfaces.numbers import Convert, devices, whole
from vramlint.values import Alternatives, Entry, Scalar, Table, Unknown, Value

_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""Variables that list the devices which a process sees, the nearest to torch first."""


class Ranks(Struct, frozen=True):
    """How many processes a launcher starts, one for each GPU."""

    world: Fact | None
    per_node: Fact | None
    nodes: Fact | None


class Program(Struct, frozen=True):
    """What is started in the end."""

    kind: str
    """script, module or command."""
    word: Word
    name: str
    arguments: Line


class Road(NamedTuple):
    """What is left of a command line, and what the wrappers that were peeled off say."""

    line: Line = ()
    environment: tuple[Entry, ...] = ()
    launcher: tuple[str, Word] | None = None
    """The innermost that starts processes, and where it stands."""
    visible: Fact | None = None
    """GPUs of one machine, as a scheduler or a container grants them: `gpus_per_node`."""
    nodes: Fact | None = None
    """Machines, as a scheduler grants them."""
    world: Fact | None = None
    """Processes in total, as a scheduler's header asks for them."""
    ranks: Ranks | None = None
    gpu: Fact | None = None
    configuration: Fact | None = None
    """The file that `accelerate launch` is given: `accelerate_config`."""
    links: tuple[Link, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    program: Program | None = None

    def variable(self, name: str) -> Entry | None:
        """The environment variable of that name."""
        return next((entry for entry in reversed(self.environment) if entry.key == name), None)

    def granted(self) -> Fact | None:
        """GPUs that a process sees on its machine, as far as somebody says."""
        return self.listed() or self.visible

    def listed(self) -> Fact | None:
        """The number of devices that a variable lists."""
        for name in _VISIBLE:
            entry = self.variable(name)
            if entry is None or not _is_list(entry.value):
                continue
            return number_of("gpus_per_node", entry, devices)
        return None

    def ends(self, kind: str, word: Word, name: str, arguments: Line) -> Road:
        """The road at its end: the program and its arguments."""
        return self._replace(program=Program(kind, word, name, arguments))


def _is_list(value: Value) -> bool:
    """Whether a variable's value is there and lists devices, rather than all of them."""
    match value:
        case Scalar():
            return isinstance(devices(str(value.value)), tuple)
        case Alternatives(options=options):
            return all(_is_list(option.value) for option in options)
    return isinstance(value, Unknown)


def number_of(name: str, entry: Entry, convert: Convert = whole) -> Fact | None:
    """The number that a variable states; None where nobody knows the place."""
    place = entry.value.place or entry.key_place
    return count(name, Word(entry.value, place), entry.key, convert) if place else None


def assignment(word: Word) -> Entry | None:
    """The variable that a word `NAME=value` sets."""
    name, equals, _ = (word.text or "").partition("=")
    if not equals or not name.isidentifier():
        return None
    return Entry(name, word.place, after(word, len(name) + 1).value)

"""What a framework's tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tools.surfaces.states import States
from tools.surfaces.trees import Tree
from vramlint.catalog.frameworks import FOLDER


class Key(NamedTuple):
    """A key as one release has it."""

    type: str
    default: str = ""
    """As JSON; empty where it is no plain value."""
    note: str = ""


Keys = Mapping[str, Key]


class Source(NamedTuple):
    """Where a framework's keys are declared, and how they are read.

    A framework whose tables are read off its history whole has `make`; one whose table holds notes of its own, that
    the code does not say, has `read` alone, and the table is kept up with it. `whole` may stand beside either.
    """

    distribution: str = ""
    """On PyPI; empty where there is none, or where it lacks what is read."""
    packages: tuple[str, ...] = ()
    """The folders of the distribution, where packages are installed."""
    repository: str = ""
    """On GitHub, OWNER/NAME."""
    read: Callable[[Tree], Mapping[str, Keys]] | None = None
    """The keys at one state, by table, as `axolotl`."""
    make: Callable[[States], Mapping[str, str]] | None = None
    """The tables over all releases: what each file below `catalog/data` holds."""
    elsewhere: tuple[str, ...] = ()
    """How notes of rows begin that are not from this source."""
    whole: Callable[[Tree], Mapping[str, str]] | None = None
    """The tables that are no keys over releases, made of one state: what each file below `catalog/data` holds."""


def table_file(name: str) -> str:
    """The file below `catalog/data` that holds a table of keys."""
    return f"{FOLDER}/{name}.tsv"

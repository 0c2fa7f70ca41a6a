"""What a launcher starts, and on which machine."""

from __future__ import annotations

from msgspec import Struct

from vramlint.facts import Fact, Link
from vramlint.text import Place
from vramlint.values import Command, Invocation, Table, WrittenFile


class Workload(Struct, frozen=True):
    """Commands that run on one kind of machine: a shell script, a make target, a step of a workflow, a pod."""

    path: str
    """The file that they stand in."""
    name: str
    """What tells them from others of the file: the target, job or container; empty when there are no others."""
    commands: tuple[Command, ...]
    facts: tuple[Fact, ...] = ()
    """What it declares of the machine: `gpu` (a name that `--gpu` takes), `gpus_per_node`, `nodes`, `world_size`."""
    files: tuple[WrittenFile, ...] = ()
    searched: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What a sweep varies, and the values of each setting, as `name = value`."""


class Launch(Struct, frozen=True):
    """One start of one program."""

    kind: str
    """script (`train.py`), module (`fastchat.train.train`) or command (`trl sft`, `llamafactory-cli train`)."""
    program: str
    """The script's path as written, the dotted module, or the command's words; empty where only run time knows it."""
    invocation: Invocation
    command: Command
    program_place: Place | None = None
    facts: tuple[Fact, ...] = ()
    """entry, launcher, world_size, nodes, gpus_per_node, gpu, allocator_settings."""
    links: tuple[Link, ...] = ()
    """Configurations that the launcher itself is given: accelerate's, DeepSpeed's, that of a tool (`axolotl train
    x.yml`). Targets are as written: relative to `command.folder`."""
    tables: tuple[tuple[str, Table], ...] = ()
    """`accelerate`: what flags of `accelerate launch` and its variables say, in the words of its configuration file,
    on top of the file that `links` may name."""

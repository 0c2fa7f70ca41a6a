"""Launchers that start one process for each GPU: how many, on how many machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.facts import Fact, Link
from vramlint.surfaces.draft import unknown
from vramlint.surfaces.launch import clusters, grammars
from vramlint.surfaces.launch.accelerate_flags import flags_table
from vramlint.surfaces.launch.counts import count, opened, stated_at
from vramlint.surfaces.launch.ranks import NODES, PER_NODE, WORLD, every_visible, is_scheduled, scheduled
from vramlint.surfaces.launch.road import Ranks, Road
from vramlint.surfaces.launch.words import Grammar, Parsed, Word, after
from vramlint.surfaces.numbers import by_default, devices, divided, elastic, renamed, times

Effect = Callable[[Parsed, Road], Road]


class Starter(Struct, frozen=True):
    """A launcher."""

    name: str
    """The fact `launcher`."""
    options: Grammar
    effect: Effect
    module: tuple[str, ...] = ()
    """Flags after which the program is a module."""
    direct: tuple[str, ...] = ()
    """Flags after which the program is a command of its own, not run by Python."""
    command: bool = False
    """What follows is a command, which is not run by Python unless it says so."""


def torchrun(parsed: Parsed, road: Road) -> Road:
    """torchrun: one process on one machine unless it is told otherwise."""
    per_node, nodes = parsed.options.get("nproc_per_node"), parsed.options.get("nnodes")
    if nodes is not None:
        machines = scheduled(count(NODES, nodes, "--nnodes", elastic), road)
    elif parsed.open is not None:
        machines = opened(NODES, parsed.open, "--nnodes")
    else:
        machines = by_default(NODES, 1, "torchrun runs on one machine unless --nnodes says otherwise")
    if per_node is not None and per_node.text in ("gpu", "auto"):
        each = every_visible(road, "torchrun", "--nproc_per_node", per_node)
    elif per_node is not None:
        each = count(PER_NODE, per_node, "--nproc_per_node")
        each = renamed(road.visible, PER_NODE) if road.visible is not None and is_scheduled(each) else each
    elif parsed.open is not None:
        each = opened(PER_NODE, parsed.open, "--nproc_per_node")
    else:
        each = by_default(PER_NODE, 1, "torchrun starts one process unless --nproc_per_node says otherwise")
    return road._replace(ranks=Ranks(times(WORLD, each, machines), each, machines))


def deepspeed(parsed: Parsed, road: Road) -> Road:
    """The deepspeed launcher: `--include`, `--num_gpus`, CUDA_VISIBLE_DEVICES, or all GPUs of all hosts."""
    included = parsed.options.get("include")
    if included is not None and included.text is not None and "@" not in included.text:
        each, machines = _included(included, road)
        return road._replace(ranks=Ranks(times(WORLD, each, machines), each, machines))
    if included is not None:
        reason = f"--include {included.text} names devices of several hosts" if included.text else "--include"
        total = _hosts(included)
        lost = unknown(PER_NODE, reason, "--include", included.place)
        return road._replace(ranks=Ranks(total or renamed(lost, WORLD), lost, unknown(NODES, reason, "--include")))
    number, machines = parsed.options.get("num_gpus"), _deepspeed_nodes(parsed, road)
    excluded = parsed.options.get("exclude")
    if number is not None and number.text != "-1":
        each = count(PER_NODE, number, "--num_gpus")
        each = renamed(road.visible, PER_NODE) if road.visible is not None and is_scheduled(each) else each
    elif excluded is not None:
        reason = f"the deepspeed launcher uses every GPU but {excluded.text or 'some'}"
        each = unknown(PER_NODE, reason, "--exclude", excluded.place)
    elif parsed.open is not None:
        each = opened(PER_NODE, parsed.open, "--num_gpus")
    else:
        each = every_visible(road, "the deepspeed launcher", "--num_gpus", road.launcher[1] if road.launcher else None)
    return road._replace(ranks=Ranks(times(WORLD, each, machines), each, machines))


def _deepspeed_nodes(parsed: Parsed, road: Road) -> Fact:
    number, hosts = parsed.options.get("num_nodes"), parsed.options.get("hostfile")
    if number is not None and number.text != "-1":
        return scheduled(count(NODES, number, "--num_nodes"), road)
    if hosts is not None and hosts.text not in ("", "None", "none", "/dev/null"):
        return unknown(NODES, f"the host file {hosts.text or ''} lists the machines", "--hostfile", hosts.place)
    return by_default(NODES, 1, "the deepspeed launcher runs on one machine without a host file")


def _included(word: Word, road: Road) -> tuple[Fact, Fact]:
    """`localhost:0,1`: devices of one host."""
    text = word.text or ""
    host, colon, _ = text.partition(":")
    one = by_default(NODES, 1, f"--include names {host} alone")
    if not colon:
        return every_visible(road, "the deepspeed launcher", "--include", word), one
    return count(PER_NODE, after(word, len(host) + 1), "--include", devices), one


def _hosts(word: Word) -> Fact | None:
    """`host1:0,1@host2:2`: devices of several hosts, in total."""

    def total(text: str) -> tuple[int, ...] | str:
        found = [devices(part.partition(":")[2]) for part in text.split("@")]
        known = [item[0] for item in found if isinstance(item, tuple)]
        return (sum(known),) if len(known) == len(found) else "--include names hosts with all of their devices"

    fact = count(WORLD, word, "--include", total)
    return fact if fact.candidates else None


def accelerate(parsed: Parsed, road: Road) -> Road:
    """`accelerate launch`: its flags as a configuration, its files, its processes."""
    flags = flags_table(parsed, road.environment)
    found = _files(parsed)
    tables = (*road.tables, ("accelerate", flags)) if flags is not None else road.tables
    road = road._replace(links=(*road.links, *found), tables=tables, configuration=_configuration(parsed))
    return processes(parsed, road)


def _configuration(parsed: Parsed) -> Fact | None:
    name, key = "accelerate_config", "--config_file"
    file = parsed.options.get("config_file")
    if file is None:
        return None
    return stated_at(name, file.text, file.written, key) if file.text else opened(name, file, key)


def _files(parsed: Parsed) -> Iterator[Link]:
    config = parsed.options.get("config_file")
    if config is not None and config.text:
        yield Link("accelerate", config.text, config.written)
    deepspeed = parsed.options.get("deepspeed_config_file")
    if deepspeed is not None and deepspeed.text and "use_deepspeed" in parsed.options:
        yield Link("deepspeed", deepspeed.text, deepspeed.written)


def processes(parsed: Parsed, road: Road) -> Road:
    """The total number of processes of `accelerate launch`; its config file says what the flags leave out."""
    total, machines = parsed.options.get("num_processes"), parsed.options.get("num_machines")
    filed = "config_file" in parsed.options
    nodes: Fact | None = None
    if machines is not None:
        nodes = scheduled(count(NODES, machines, "--num_machines"), road)
    elif not filed:
        nodes = by_default(NODES, 1, "accelerate launch runs on one machine unless --num_machines says otherwise")
    if total is not None:
        world: Fact | None = count(WORLD, total, "--num_processes")
    elif filed:
        seen = road.listed()  # which the file's number is likely to repeat, and which is nearer at hand
        world = renamed(seen, WORLD) if seen is not None and nodes is None else None
    elif parsed.open is not None:
        world = opened(WORLD, parsed.open, "--num_processes")
    else:
        listed = parsed.options.get("gpu_ids")
        each = every_visible(road, "accelerate launch", "--num_processes", road.launcher[1] if road.launcher else None)
        if listed is not None and listed.text not in (None, "all"):
            each = count(PER_NODE, listed, "--gpu_ids", devices)
        return road._replace(ranks=Ranks(times(WORLD, each, nodes) if nodes else None, each, nodes))
    each_node = divided(PER_NODE, world, nodes) if world is not None and nodes is not None else None
    return road._replace(ranks=Ranks(world, each_node, nodes))


STARTERS: Mapping[str, Starter] = MappingProxyType(
    {
        "torchrun": Starter("torchrun", grammars.TORCHRUN, torchrun, ("m", "module"), ("no_python",)),
        "deepspeed": Starter("deepspeed", grammars.DEEPSPEED, deepspeed, ("m", "module"), ("no_python",)),
        "ft_launcher": Starter("torchrun", grammars.TORCHRUN, torchrun, ("m", "module"), ("no_python",)),
        "ds": Starter("deepspeed", grammars.DEEPSPEED, deepspeed, ("m", "module"), ("no_python",)),
        "accelerate launch": Starter("accelerate", grammars.ACCELERATE, accelerate, ("module",), ("no_python",)),
        "accelerate-launch": Starter("accelerate", grammars.ACCELERATE, accelerate, ("module",), ("no_python",)),
        "mpirun": Starter("mpirun", grammars.MPI, clusters.mpirun, command=True),
        "mpiexec": Starter("mpirun", grammars.MPI, clusters.mpirun, command=True),
        "mpiexec.hydra": Starter("mpirun", grammars.MPI, clusters.mpirun, command=True),
        "srun": Starter("srun", grammars.SRUN, clusters.srun, command=True),
        "salloc": Starter("srun", grammars.SRUN, clusters.srun, command=True),
        "jsrun": Starter("jsrun", grammars.JSRUN, clusters.jsrun, command=True),
        "aprun": Starter("aprun", grammars.APRUN, clusters.aprun, command=True),
        "horovodrun": Starter("horovodrun", grammars.HOROVOD, clusters.horovod, command=True),
        "composer": Starter("composer", grammars.COMPOSER, clusters.composer, ("module_mode",), ("command_mode",)),
        "colossalai run": Starter("colossalai", grammars.COLOSSALAI, clusters.colossalai, ("m", "module")),
        "fabric run": Starter("fabric", grammars.FABRIC, clusters.fabric),
        "fabric run model": Starter("fabric", grammars.FABRIC, clusters.fabric),
        "lightning run": Starter("fabric", grammars.FABRIC, clusters.fabric),
        "lightning run model": Starter("fabric", grammars.FABRIC, clusters.fabric),
    }
)
"""Launchers by their name and subcommands."""

"""Launchers that start one process for each GPU: how many, on how many machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from vramlint.facts import Fact, Link
from vramlint.surfaces.draft import unknown
from vramlint.surfaces.launch import grammars
from vramlint.surfaces.launch.accelerate_flags import flags_table
from vramlint.surfaces.launch.counts import count, opened
from vramlint.surfaces.launch.road import Ranks, Road
from vramlint.surfaces.launch.words import Grammar, Parsed, Word, after
from vramlint.surfaces.launch.wrappers import gpu_called, variables
from vramlint.surfaces.numbers import by_default, devices, divided, elastic, renamed, times
from vramlint.values import Scalar

Effect = Callable[[Parsed, Road], Road]

WORLD, NODES, PER_NODE = "world_size", "nodes", "gpus_per_node"


class Starter(NamedTuple):
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


def is_scheduled(fact: Fact) -> bool:
    """Whether a number is left to the scheduler, in a variable that it sets."""
    return not fact.candidates and any(word in fact.reason for word in ("SLURM_", "PBS_", "SKYPILOT_", "OMPI_"))


def _nodes(found: Fact, road: Road) -> Fact:
    return renamed(road.nodes, NODES) if road.nodes is not None and is_scheduled(found) else found


def every_visible(road: Road, who: str, key: str, word: Word | None) -> Fact:
    """All GPUs that a launcher finds, where somebody says how many those are."""
    granted = road.granted()
    if granted is not None:
        return renamed(granted, PER_NODE)
    return unknown(PER_NODE, f"{who} uses every visible GPU", key, word.place if word else None)


def torchrun(parsed: Parsed, road: Road) -> Road:
    """torchrun: one process on one machine unless it is told otherwise."""
    per_node, nodes = parsed.options.get("nproc_per_node"), parsed.options.get("nnodes")
    if nodes is not None:
        machines = _nodes(count(NODES, nodes, "--nnodes", elastic), road)
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
        return _nodes(count(NODES, number, "--num_nodes"), road)
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
    return processes(parsed, road._replace(links=(*road.links, *found), tables=tables))


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
        nodes = _nodes(count(NODES, machines, "--num_machines"), road)
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


def mpirun(parsed: Parsed, road: Road) -> Road:
    """mpirun: ranks in total, or for each machine."""
    given = variables(word for name, word in parsed.repeated if name == "x")
    road = road._replace(environment=(*road.environment, *given))
    total, each = parsed.options.get("n"), parsed.options.get("npernode")
    per_node = count(PER_NODE, each, "-npernode") if each is not None else _mapped(parsed.options.get("map_by"))
    world = count(WORLD, total, "-np") if total is not None else None
    hosts = parsed.options.get("host")
    nodes = count(NODES, hosts, "-H", devices) if hosts is not None else road.nodes
    return road._replace(ranks=_completed(world, per_node, nodes, road))


def _mapped(word: Word | None) -> Fact | None:
    """`--map-by ppr:8:node`."""
    parts = (word.text or "").split(":") if word is not None else []
    if word is None or len(parts) < 3 or parts[0] != "ppr" or not parts[2].startswith("node"):
        return None
    return count(PER_NODE, Word(Scalar(parts[1], word.written), word.place), "--map-by")


def _completed(world: Fact | None, per_node: Fact | None, nodes: Fact | None, road: Road) -> Ranks | None:
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


def srun(parsed: Parsed, road: Road) -> Road:
    """srun: what it starts itself, and the machines and GPUs that it grants to a launcher behind it."""
    road = _granted(parsed, road)
    total, each = parsed.options.get("ntasks"), parsed.options.get("ntasks_per_node")
    nodes = road.nodes
    world = count(WORLD, total, "--ntasks") if total is not None else None
    per_node = count(PER_NODE, each, "--ntasks-per-node") if each is not None else None
    if world is None and per_node is None:
        world = road.world
        per_node = renamed(road.visible, PER_NODE) if road.visible is not None and world is None else None
    return road._replace(ranks=_completed(world, per_node, nodes, road))


def _granted(parsed: Parsed, road: Road) -> Road:
    nodes = parsed.options.get("nodes")
    if nodes is not None:
        found = count(NODES, nodes, "--nodes", lambda text: elastic(text.replace("-", ":", 1)))
        road = road._replace(nodes=_nodes(found, road))
    for option in ("gpus_per_node", "gres", "gpus", "tres_per_task"):
        word = parsed.options.get(option)
        if word is None:
            continue
        named = resource(word, road, f"--{option.replace('_', '-')}")
        if named is not None:
            road = named
            if option == "gpus" and road.nodes is not None and road.visible is not None:
                road = road._replace(visible=divided(PER_NODE, road.visible, road.nodes))
            break
    return road


def resource(word: Word, road: Road, key: str) -> Road | None:
    """Slurm's `gpu:h100:4`, `h100:4`, `gpu:4` or `4`."""
    text = word.text
    if text is None:
        return road._replace(visible=count(PER_NODE, word, key))
    start = 0
    for part in text.split(","):
        fields = part.split("(")[0].split(":")
        if key != "--gres" or fields[0] in ("gpu", "gres/gpu"):
            tail = fields[-1]
            fields = fields[1:] if fields[0] in ("gpu", "gres/gpu") else fields
            number = tail if tail.isdigit() else "1"
            place = after(word, start + len(part) - len(tail)) if start + len(part) == len(text) else word
            name = next((field for field in fields if field and not field.isdigit()), "")
            gpu = gpu_called(name, word, key) if name else None
            visible = count(PER_NODE, Word(Scalar(number, place.written), word.place), key)
            return road._replace(visible=visible, gpu=gpu or road.gpu)
        start += len(part) + 1
    return None


def jsrun(parsed: Parsed, road: Road) -> Road:
    """jsrun: resource sets, and tasks in each."""
    sets, tasks = parsed.options.get("nrs"), parsed.options.get("tasks_per_rs")
    if sets is None:
        return road
    world = count(WORLD, sets, "--nrs")
    return road._replace(ranks=Ranks(times(WORLD, world, count(WORLD, tasks, "-a")) if tasks else world, None, None))


def aprun(parsed: Parsed, road: Road) -> Road:
    """aprun: processes in total and for each node."""
    total, each = parsed.options.get("n"), parsed.options.get("N")
    world = count(WORLD, total, "-n") if total is not None else None
    return road._replace(ranks=_completed(world, count(PER_NODE, each, "-N") if each else None, None, road))


def horovod(parsed: Parsed, road: Road) -> Road:
    """horovodrun: processes in total."""
    total = parsed.options.get("num_proc")
    return road._replace(ranks=Ranks(count(WORLD, total, "-np"), None, None)) if total is not None else road


def composer(parsed: Parsed, road: Road) -> Road:
    """composer: processes on this machine, all GPUs unless it is told; the world where there are several machines."""
    each, total = parsed.options.get("nproc"), parsed.options.get("world_size")
    if each is None and total is None and road.granted() is None and road.world is not None:
        return road._replace(ranks=Ranks(road.world, None, None))
    per_node = count(PER_NODE, each, "-n") if each else every_visible(road, "composer", "-n", None)
    if total is None:
        return road._replace(ranks=Ranks(renamed(per_node, WORLD), per_node, by_default(NODES, 1, "no --world_size")))
    world = count(WORLD, total, "--world_size")
    return road._replace(ranks=Ranks(world, per_node, divided(NODES, world, per_node)))


def colossalai(parsed: Parsed, road: Road) -> Road:
    """`colossalai run`."""
    each, nodes, hosts = (parsed.options.get(name) for name in ("nproc_per_node", "num_nodes", "host"))
    per_node = count(PER_NODE, each, "--nproc_per_node") if each else every_visible(road, "colossalai run", "", None)
    if nodes is not None:
        machines = count(NODES, nodes, "--num_nodes")
    elif hosts is not None:
        machines = count(NODES, hosts, "--host", devices)
    elif "hostfile" in parsed.options:
        machines = unknown(NODES, "a host file lists the machines", "--hostfile", parsed.options["hostfile"].place)
    else:
        machines = by_default(NODES, 1, "no host is named")
    return road._replace(ranks=Ranks(times(WORLD, per_node, machines), per_node, machines))


def fabric(parsed: Parsed, road: Road) -> Road:
    """`fabric run`, `lightning run model`: one device unless it is told (lightning 2.5 fabric/cli.py)."""
    listed, nodes = parsed.options.get("devices"), parsed.options.get("num_nodes")
    if listed is None:
        per_node = by_default(PER_NODE, 1, "fabric run uses one device unless --devices says otherwise")
    elif listed.text in ("auto", "-1"):
        per_node = every_visible(road, "fabric run", "--devices", listed)
    else:
        per_node = count(PER_NODE, listed, "--devices", devices if "," in (listed.text or "") else None)
    machines = count(NODES, nodes, "--num-nodes") if nodes else by_default(NODES, 1, "no --num-nodes")
    return road._replace(ranks=Ranks(times(WORLD, per_node, machines), per_node, machines))


STARTERS: Mapping[str, Starter] = MappingProxyType(
    {
        "torchrun": Starter("torchrun", grammars.TORCHRUN, torchrun, ("m", "module"), ("no_python",)),
        "deepspeed": Starter("deepspeed", grammars.DEEPSPEED, deepspeed, ("m", "module"), ("no_python",)),
        "ft_launcher": Starter("torchrun", grammars.TORCHRUN, torchrun, ("m", "module"), ("no_python",)),
        "ds": Starter("deepspeed", grammars.DEEPSPEED, deepspeed, ("m", "module"), ("no_python",)),
        "accelerate launch": Starter("accelerate", grammars.ACCELERATE, accelerate, ("module",), ("no_python",)),
        "accelerate-launch": Starter("accelerate", grammars.ACCELERATE, accelerate, ("module",), ("no_python",)),
        "mpirun": Starter("mpirun", grammars.MPI, mpirun, command=True),
        "mpiexec": Starter("mpirun", grammars.MPI, mpirun, command=True),
        "mpiexec.hydra": Starter("mpirun", grammars.MPI, mpirun, command=True),
        "srun": Starter("srun", grammars.SRUN, srun, command=True),
        "salloc": Starter("srun", grammars.SRUN, srun, command=True),
        "jsrun": Starter("jsrun", grammars.JSRUN, jsrun, command=True),
        "aprun": Starter("aprun", grammars.APRUN, aprun, command=True),
        "horovodrun": Starter("horovodrun", grammars.HOROVOD, horovod, command=True),
        "composer": Starter("composer", grammars.COMPOSER, composer, ("module_mode",), ("command_mode",)),
        "colossalai run": Starter("colossalai", grammars.COLOSSALAI, colossalai, ("m", "module")),
        "fabric run": Starter("fabric", grammars.FABRIC, fabric),
        "fabric run model": Starter("fabric", grammars.FABRIC, fabric),
        "lightning run": Starter("fabric", grammars.FABRIC, fabric),
        "lightning run model": Starter("fabric", grammars.FABRIC, fabric),
    }
)
"""Launchers by their name and subcommands."""

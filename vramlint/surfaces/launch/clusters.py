"""Launchers of clusters: mpirun, srun and their kin, which start ranks on several machines."""

from __future__ import annotations

from vramlint.facts import Fact
from vramlint.surfaces.draft import unknown
from vramlint.surfaces.launch.counts import count
from vramlint.surfaces.launch.ranks import NODES, PER_NODE, WORLD, completed, every_visible, scheduled
from vramlint.surfaces.launch.road import Ranks, Road
from vramlint.surfaces.launch.words import Parsed, Word, after
from vramlint.surfaces.launch.wrappers import gpu_called, variables
from vramlint.surfaces.numbers import by_default, devices, divided, elastic, renamed, times
from vramlint.values import Scalar


def mpirun(parsed: Parsed, road: Road) -> Road:
    """mpirun: ranks in total, or for each machine."""
    given = variables(word for name, word in parsed.repeated if name == "x")
    road = road._replace(environment=(*road.environment, *given))
    total, each = parsed.options.get("n"), parsed.options.get("npernode")
    per_node = count(PER_NODE, each, "-npernode") if each is not None else _mapped(parsed.options.get("map_by"))
    world = count(WORLD, total, "-np") if total is not None else None
    hosts = parsed.options.get("host")
    nodes = count(NODES, hosts, "-H", devices) if hosts is not None else road.nodes
    return road._replace(ranks=completed(world, per_node, nodes, road))


def _mapped(word: Word | None) -> Fact | None:
    """`--map-by ppr:8:node`."""
    parts = (word.text or "").split(":") if word is not None else []
    if word is None or len(parts) < 3 or parts[0] != "ppr" or not parts[2].startswith("node"):
        return None
    return count(PER_NODE, Word(Scalar(parts[1], word.written), word.place), "--map-by")


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
    return road._replace(ranks=completed(world, per_node, nodes, road))


def _granted(parsed: Parsed, road: Road) -> Road:
    nodes = parsed.options.get("nodes")
    if nodes is not None:
        found = count(NODES, nodes, "--nodes", lambda text: elastic(text.replace("-", ":", 1)))
        road = road._replace(nodes=scheduled(found, road))
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
    return road._replace(ranks=completed(world, count(PER_NODE, each, "-N") if each else None, None, road))


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

"""Job files of smaller platforms: dstack, Determined, MosaicML's mcli."""

from __future__ import annotations

from msgspec.structs import replace

from vramlint.facts import Fact
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.scripts import Ran, Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.text import Place, masked
from vramlint.values import Command, Items, Scalar, Table, Value, WrittenFile

_PARAMETERS = "/mnt/config/parameters.yaml"
"""Where a run of mcli finds the `parameters` of its job file."""


def dstack(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """`commands` of a task, with `resources.gpu`."""
    commands = table.get("commands")
    ran = scripts.shell(commands.values if isinstance(commands, Items) else (), environment_of(table.get("env")))
    facts = (*_dstack_gpu(table.get("resources", "gpu")), *hardware.count("nodes", table.get("nodes"), "nodes"))
    return _workload(scripts, ran, facts)


def _dstack_gpu(value: Value | None) -> tuple[Fact, ...]:
    """`H100:8`, `80GB:2`, `A100:80GB:8`, `24GB..`, `8`, or a table of name, memory and count."""
    if isinstance(value, Table):
        names = value.get("name")
        choices = names.values if isinstance(names, Items) else (names,) if names is not None else ()
        size = value.get("memory")
        memory = str(size.value) if isinstance(size, Scalar) and ".." not in str(size.value) else ""
        sized = [[*hardware.texts(name), (memory, None)] if memory else hardware.texts(name) for name in choices]
        words = [(":".join(str(text) for text, _ in parts), parts[0][1]) for parts in sized if parts]
        gpus = hardware.any_of([_dstack_word(word, place) for word, place in words]) if words else ()
        return (*gpus, *hardware.count("gpus_per_node", value.get("count"), "gpu.count"))
    if isinstance(value, Scalar) and value.value is not None:
        return _dstack_word(str(value.value), value.place)
    return ()


def _dstack_word(word: str, place: Place | None) -> tuple[Fact, ...]:
    """Parts of a request: names, sizes and numbers, in any order; ranges leave open what is given."""
    facts: list[Fact] = []
    parts = [part.strip() for part in word.split(":")]
    sizes = [part for part in parts if part.upper().endswith("GB") or (".." in part and "GB" in part.upper())]
    names = [part for part in parts if part not in sizes and not part.replace(".", "").isdigit()]
    counts = [part for part in parts if part.replace(".", "").isdigit()]
    if any(".." in part for part in sizes) and not names:
        facts.append(hardware.unknown("gpu", f"any GPU of {sizes[0]}", "gpu"))
    elif names:
        spelt = [f"{name}-{sizes[0]}" if sizes and ".." not in sizes[0] else name for name in names[0].split(",")]
        facts += hardware.any_of([hardware.gpu(Scalar(name, place), "gpu") for name in spelt])
    elif sizes:
        facts.append(hardware.written("gpu", [(sizes[0], place)], "gpu"))
    if counts:
        facts += hardware.count("gpus_per_node", Scalar(counts[0], place), "gpu")
    return tuple(facts)


def determined(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """`entrypoint` of an experiment, on `slots_per_trial` GPUs altogether."""
    variables = table.get("environment", "environment_variables")
    ran = scripts.either(table.get("entrypoint"), environment_of(variables))
    return _workload(
        scripts, ran, hardware.count("world_size", table.get("resources", "slots_per_trial"), "slots_per_trial")
    )


def mosaicml(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """`command` of an mcli run, on `compute.gpus` GPUs altogether."""
    variables = table.get("env_variables")
    ran = scripts.shell([table.get("command")], environment_of(variables))
    ran = ran._replace(commands=tuple([_inside(command, _clones(table)) for command in ran.commands]))
    compute = table.get("compute")
    number = compute.get("gpus") if isinstance(compute, Table) else table.get("gpu_num")
    kind = compute.get("gpu_type") if isinstance(compute, Table) else table.get("gpu_type")
    facts = (*hardware.gpu(kind, "gpu_type"), *hardware.count("world_size", number, "gpus"))
    parameters = table.get("parameters")
    if isinstance(parameters, Table) and parameters.entries and parameters.place is not None:
        inner = masked(scripts.document, [parameters.place.span])
        given = WrittenFile(Scalar(_PARAMETERS, parameters.place), inner, parameters.place)
        ran = ran._replace(files=(*ran.files, given))
    return _workload(scripts, ran, facts)


def _clones(table: Table) -> tuple[str, ...]:
    """Folders into which the run's `integrations` clone repositories, of which this one is likely the first."""
    integrations = table.get("integrations")
    named = integrations.values if isinstance(integrations, Items) else ()
    repositories = (item.get("path") or item.get("git_repo") for item in named if isinstance(item, Table))
    return tuple(
        str(value.value).rstrip("/").removesuffix(".git").rpartition("/")[2]
        for value in repositories
        if isinstance(value, Scalar) and value.value
    )


def _inside(command: Command, clones: tuple[str, ...]) -> Command:
    """A command as seen from inside of the repository: `llm-foundry/scripts` is its folder `scripts`."""
    folder = command.folder
    if not isinstance(folder, Scalar) or not isinstance(folder.value, str):
        return command
    head, _, rest = folder.value.removeprefix("./").partition("/")
    return replace(command, folder=replace(folder, value=rest or ".")) if head in clones else command


def _workload(scripts: Scripts, ran: Ran, facts: tuple[Fact, ...]) -> tuple[Workload, ...]:
    return (Workload(scripts.document.path, "", ran.commands, facts, ran.files),) if ran.commands else ()

"""Jobs that Python hands to a service: Vertex AI, SkyPilot, Azure ML, Hugging Face Jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from vramlint.surfaces.jobfiles import azureml, hardware, skypilot, vertex
from vramlint.surfaces.jobfiles.scripts import Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Call, Entry, Items, Program, Scalar, Table, Value


def workloads(scripts: Scripts, program: Program) -> tuple[Workload, ...]:
    """The jobs of all services."""
    found: list[Workload] = []
    for call in program.calls:
        service = _SERVICES.get(call.callee)
        if service is not None:
            found += service(scripts, call, program)
    return tuple(found)


def _vertex(scripts: Scripts, call: Call, _program: Program) -> Iterator[Workload]:
    """`CustomJob(worker_pool_specs=[…])`."""
    yield from vertex.workloads(scripts, _table(call))


def _azure(scripts: Scripts, call: Call, _program: Program) -> Iterator[Workload]:
    """`command(code="./src", command="python train.py --lr ${{inputs.lr}}", instance_count=2)`."""
    given = _table(call)
    kind, number = (given.entry(key) for key in ("instance_type", "instance_count"))
    resources = Table(tuple(entry for entry in (kind, number) if entry is not None))
    yield from azureml.workloads(scripts, Table((*given.entries, Entry("resources", None, resources))))


def _sky(scripts: Scripts, call: Call, program: Program) -> Iterator[Workload]:
    """`Task(run="…", num_nodes=2)` with `Resources(accelerators="A100:8")` set on it."""
    resources: Value | None = None
    for other in program.calls:
        if other.callee == ".set_resources" and isinstance(other.receiver, Call) and other.receiver.place == call.place:
            resources = other.argument("resources", 0)
    given = _table(call).entries
    if isinstance(resources, Call):
        given = (*given, Entry("resources", None, _table(resources)))
    yield from skypilot.workloads(scripts, Table(given))


def _hugging_face(scripts: Scripts, call: Call, _program: Program) -> Iterator[Workload]:
    """`run_job(image=…, command=[…], flavor="a100-large")`, `run_uv_job("train.py", script_args=[…])`."""
    script, arguments = call.argument("script", 0), call.argument("script_args")
    command = call.argument("command")
    words: tuple[Value, ...] = command.values if isinstance(command, Items) else ()
    if call.callee.endswith("run_uv_job") and script is not None:
        rest = arguments.values if isinstance(arguments, Items) else ()
        words = (Scalar("python", script.place), script, *rest)
    ran = scripts.words(words, call.place, environment_of(call.argument("env")))
    if ran.commands:
        facts = hardware.machine(call.argument("flavor"), "flavor")
        yield Workload(scripts.document.path, "", ran.commands, facts, ran.files)


def _table(call: Call) -> Table:
    return Table(tuple(Entry(word.name, word.name_place, word.value) for word in call.keywords), call.place)


_SERVICES: Mapping[str, Callable[[Scripts, Call, Program], Iterator[Workload]]] = MappingProxyType(
    {
        "google.cloud.aiplatform.CustomJob": _vertex,
        "azure.ai.ml.command": _azure,
        "sky.Task": _sky,
        "huggingface_hub.run_job": _hugging_face,
        "huggingface_hub.run_uv_job": _hugging_face,
    }
)

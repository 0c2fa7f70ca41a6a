"""Compose files of Docker: services with commands and reserved devices."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.jobfiles.scripts import Ran, Scripts, environment_of
from vramlint.surfaces.launch.launch import Workload
from vramlint.values import Items, Scalar, Table, Unknown, Value

_VARIABLE = lazy(r"\$\$|\$\{(\w+)(?::?([-?])([^}]*))?\}|\$(\w+)")


def workloads(scripts: Scripts, table: Table) -> tuple[Workload, ...]:
    """One workload per service that has a command."""
    services = table.get("services")
    scripts = scripts.with_template(_VARIABLE, _variable)
    found = []
    for entry in services if isinstance(services, Table) else ():
        if isinstance(entry.value, Table):
            ran = _run(scripts, entry.value)
            facts = hardware.one_of_each(_devices(scripts, entry.value))
            if ran.commands:
                found.append(Workload(scripts.document.path, entry.key, ran.commands, facts, ran.files))
    return tuple(found)


def _variable(match: re.Match[str]) -> Value | str:
    """What Compose itself puts in, from the environment of the one who starts it."""
    if match[0] == "$$":
        return "$"
    return Scalar(match[3]) if match[2] == "-" else Unknown(f"environment variable {match[1] or match[4]}")


def _run(scripts: Scripts, service: Table) -> Ran:
    environment = environment_of(service.get("environment"))
    folder = service.get("working_dir")
    folder = folder if isinstance(folder, Scalar) else None
    entrypoint, command = service.get("entrypoint"), service.get("command")
    if isinstance(entrypoint, Items) and isinstance(command, Items) and entrypoint.place is not None:
        return scripts.words((*entrypoint.values, *command.values), entrypoint.place, environment, folder)
    if isinstance(entrypoint, Items) and isinstance(command, Scalar) and command.value and entrypoint.place is not None:
        return scripts.words((*entrypoint.values, command), entrypoint.place, environment, folder)
    return scripts.either(command or entrypoint, environment, folder)


def _devices(scripts: Scripts, service: Table) -> Iterator[Fact]:
    devices = service.get("deploy", "resources", "reservations", "devices") or service.get("gpus")
    for device in devices.values if isinstance(devices, Items) else (devices,):
        if isinstance(device, Scalar) and device.value == "all":
            yield hardware.unknown("gpus_per_node", "all GPUs of the machine", "gpus")
        if not isinstance(device, Table):
            continue
        ids, count = device.get("device_ids"), device.get("count")
        if isinstance(ids, Items) and ids.values:
            yield hardware.written("gpus_per_node", [(len(ids.values), ids.place)], "device_ids")
        elif isinstance(count, Scalar) and count.value == "all":
            yield hardware.unknown("gpus_per_node", "all GPUs of the machine", "count")
        elif count is not None:
            yield from hardware.count("gpus_per_node", scripts.value(count), "count")

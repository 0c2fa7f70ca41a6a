"""Host memory that a job may use on one machine, as its scheduler is asked for it; the kernel ends what takes more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles import hardware
from vramlint.surfaces.launch.ranks import HOST_MEMORY
from vramlint.values import Entry, Scalar, Table, Value

_SLURM = lazy(r"(\d+)([KMGT])?B?", re.IGNORECASE)
_POD = lazy(r"(\d+(?:\.\d+)?)([EPTGMk]i?|Ki)?")
_POWERS: Mapping[str, int] = MappingProxyType({"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60})
_PER: Mapping[str, str] = MappingProxyType({"--mem-per-cpu": "cores", "--mem-per-gpu": "gpus"})


def of_slurm(asked: Mapping[str, Entry], gpus: int | None) -> Iterator[Fact]:
    """`--mem`, `--mem-per-cpu` and `--mem-per-gpu` of sbatch: megabytes of 2^20 without a unit; 0 asks for all.

    https://slurm.schedmd.com/sbatch.html. `gpus` are those of one machine.
    """
    whole = asked.get("--mem")
    if whole is not None:
        yield from _written(_slurm_size(whole.value), 1, whole)
        return
    numbers = {"cores": _cores(asked), "gpus": gpus}
    for key, of in _PER.items():
        entry, times = asked.get(key), numbers[of]
        if entry is not None and times:
            yield from _written(_slurm_size(entry.value), times, entry)
            return


def of_container(resources: Value | None) -> Iterator[Fact]:
    """`limits.memory` of a container of Kubernetes: a pod is one machine of its job."""
    limits = resources.get("limits") if isinstance(resources, Table) else None
    entry = limits.entry("memory") if isinstance(limits, Table) else None
    match = _POD.fullmatch(_text(entry.value)) if entry is not None else None
    if entry is None or match is None:
        return
    unit = match[2] or ""
    base = 1 << _POWERS[unit[0]] if unit.endswith("i") else 10 ** (_POWERS[unit[0].upper()] // 10 * 3) if unit else 1
    yield from _written(int(float(match[1]) * base), 1, entry)


def of_sky(resources: Table) -> Iterator[Fact]:
    """`memory: 64` of SkyPilot, in gigabytes; `64+` and `4x` leave open how much more the machine has."""
    entry = resources.entry("memory")
    text = _text(entry.value).removesuffix("GB") if entry is not None else ""
    if entry is not None and text.isdecimal():
        yield from _written(int(text) << _POWERS["G"], 1, entry)


def _cores(asked: Mapping[str, Entry]) -> int | None:
    """Of one machine: tasks by their cores, each one unless it is said; None where tasks are counted over all."""
    if "--ntasks" in asked and "--ntasks-per-node" not in asked and "--nodes" not in asked:
        return None
    numbers = [asked[key].value for key in ("--ntasks-per-node", "--cpus-per-task") if key in asked]
    if not all(_text(number).isdecimal() for number in numbers):
        return None
    total = 1
    for number in numbers:
        total *= int(_text(number))
    return total


def _slurm_size(value: Value) -> int:
    match = _SLURM.fullmatch(_text(value))
    return int(match[1]) << _POWERS[(match[2] or "M").upper()] if match else 0


def _text(value: Value) -> str:
    return str(value.value).strip() if isinstance(value, Scalar) and value.value is not None else ""


def _written(size: int, times: int, entry: Entry) -> Iterator[Fact]:
    if size:
        yield hardware.written(HOST_MEMORY, [(size * times, entry.value.place)], entry.key)

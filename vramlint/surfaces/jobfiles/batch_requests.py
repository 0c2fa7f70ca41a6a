"""Requests of PBS and Grid Engine (`-l`) and of LSF (`-gpu`, `-R`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vramlint.facts import Fact
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles import hardware
from vramlint.values import Entry, Scalar

_COUNTS = frozenset(("ngpus", "gpus", "gpu", "num", "ngpus_excl_p", "ngpus_shared", "ngpus_physical"))
_TYPES = frozenset(("gpu_model", "gputype", "gpu_type", "gpu_id", "gmodel", "accelerator_model", "gpu_name"))
_MACHINES = frozenset(("select", "nodes"))
_PAIR = lazy(r"(?P<key>\w+)=(?P<value>[^,:\[\]\s\"']+)")


def resources(entry: Entry) -> Iterator[Fact]:
    """`select=2:ngpus=4:gpu_model=a100`, `nodes=2:ppn=8:gpus=4`, `gpu=2`."""
    for pair in _pairs(entry):
        key, value = pair["key"].lower(), Scalar(pair["value"], entry.value.place)
        if key in _COUNTS:
            yield from _known(hardware.count("gpus_per_node", value, entry.key))
        elif key in _TYPES:
            yield from _any_gpu(value, entry)
        elif key in _MACHINES:
            yield from _known(hardware.count("nodes", value, entry.key))


def lsf(entry: Entry) -> Iterator[Fact]:
    """`num=4:mode=exclusive_process:gmodel=NVIDIAA100`, `rusage[ngpus_excl_p=4]`."""
    for pair in _pairs(entry):
        key, value = pair["key"].lower(), Scalar(pair["value"], entry.value.place)
        if key in _COUNTS:
            yield from _known(hardware.count("gpus_per_node", value, entry.key))
        elif key in _TYPES:
            yield from _any_gpu(value, entry)


def _any_gpu(value: Scalar, entry: Entry) -> tuple[Fact, ...]:
    """`A100`, or one of `A100|H100`."""
    names = [Scalar(name, value.place) for name in str(value.value).split("|")]
    return hardware.any_of([hardware.gpu(name, entry.key) for name in names])


def _pairs(entry: Entry) -> Iterator[re.Match[str]]:
    return _PAIR.finditer(str(entry.value.value)) if isinstance(entry.value, Scalar) else iter(())


def _known(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """Only what is said: `gpu=true` names no number, and `nodes=node07` is a machine's name."""
    return tuple(fact for fact in facts if fact.candidates)

"""Machines of clouds, and what job files call accelerators."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from msgspec import Struct

from vramlint.catalog.gpu_rows import rows_named, telling_name
from vramlint.catalog.gpus import find_gpu
from vramlint.catalog.lines import lines
from vramlint.job import Gpu


class Machine(Struct, frozen=True):
    """The accelerators of one machine."""

    gpu: str
    """The catalog's id."""
    gpus: int


def machine_of(name: str) -> Machine | None:
    """The accelerators of a cloud's machine type: `ml.p4d.24xlarge`, `a2-highgpu-8g`, `Standard_ND96asr_v4`.

    With or without the provider in front (`aws p4d.24xlarge`); case and separators do not matter.
    """
    return _machines().get(_normal(name)) if name else None


def gpus_of(name: str, vocabulary: str = "") -> tuple[str, ...]:
    """The devices that `name` may mean, in names that `--gpu` takes; several where it is ambiguous, none if unknown.

    `vocabulary` says whose name it is, for some mean one device there only: gcp, sky, modal, coreweave, label.
    A slice of a device is one too: `a100_1g.5gb`, `NVIDIA-A100-SXM4-40GB-MIG-1g.5gb`.
    """
    wanted = name.strip().removesuffix("-SHARED")
    own = _own_names().get((vocabulary, _normal(wanted)))
    if own is not None:
        return (own,)
    rows = rows_named(wanted)
    if len(rows) == 1:
        return (rows[0].id,)
    if rows:
        return tuple(sorted(telling_name(row) for row in rows))
    return _slices(wanted, vocabulary)


def spelling_of(gpu: str, vocabulary: str) -> str | None:
    """How a vocabulary asks for a device today; None where it has no name for it that is known.

    Args:
        gpu: the catalog's id.
        vocabulary: gcp, modal, sky; label: NVIDIA's for nodes of Kubernetes; slurm: a word that clusters use.
    """
    rows = rows_named(gpu)
    if len(rows) != 1:
        return None
    if vocabulary == "label":  # gpu-feature-discovery's nvidia.com/gpu.product: the driver's name with dashes
        return rows[0].name.replace(" ", "-")
    if vocabulary == "slurm":
        return gpu.replace("-", "") if gpu.startswith("rtx") else gpu.partition("-")[0]
    return next((name for _, _, name, _source in lines("gpu_spellings.tsv").starting_with(vocabulary, gpu)), None)


def _slices(name: str, vocabulary: str) -> tuple[str, ...]:
    match = re.fullmatch(r"(?P<whole>.+?)[-_./:](?:mig[-_])?(?P<profile>\d+g\.\d+gb)", name.lower())
    if match is None:
        return ()
    found = (find_gpu(f"{whole}/{match['profile']}") for whole in gpus_of(match["whole"], vocabulary))
    return tuple(gpu.id for gpu in found if isinstance(gpu, Gpu))


@cache
def _machines() -> Mapping[str, Machine]:
    """Every machine under its name with and without the provider; none under a name that providers share."""
    found: dict[str, Machine] = {}
    for name, gpu, count, _source in lines("instances.tsv"):
        machine = Machine(gpu, int(count))
        found[_normal(name)] = machine
        found[_normal(name.partition(" ")[2])] = machine
    return found


@cache
def _own_names() -> Mapping[tuple[str, str], str]:
    return {(vocabulary, _normal(name)): gpu for vocabulary, name, gpu, _source in lines("accelerators.tsv")}


def _normal(name: str) -> str:
    text = re.sub(r"[\s_-]+", "-", name.strip().lower())
    return text.removeprefix("ml.").removeprefix("standard-")

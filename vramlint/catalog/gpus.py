"""The accelerator catalog: what a device has, under every name that people give it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from vramlint.catalog.gpu_rows import GpuRow, all_gpus, normal, normal_forms, rows_named, telling_name
from vramlint.catalog.lines import lines
from vramlint.job import Gpu

__all__ = [
    "GpuAmbiguous",
    "GpuRow",
    "all_gpus",
    "find_gpu",
    "gpu_row",
    "nearest_gpus",
    "smallest_gpus",
]

MIB = 2**20
GIB = 2**30

CONTEXT_BYTES = 300 * MIB
"""Device memory that a process holds outside torch's allocator, with lazy module loading (CUDA >= 11.7), where nothing
is known of the card. 250 to 450 MiB have been seen before the first tensor; pytorch pull request 86509 measured 287."""
_CONTEXTS: Mapping[tuple[int, int], int] = {(8, 9): 426 * MIB, (9, 0): 767 * MIB}
"""By compute capability, of one card each. RTX 6000 Ada, torch 2.10 with CUDA 13.0, before its first tensor
(unsloth-zoo pull request 1053). H200, torch 2.11 with CUDA 13.0, in training steps (bench/gpu/measured): 616 before the
first tensor, 64 to 68 with each of two cuBLAS handles, 16 with the kernels of attention."""

_CEILING = (985, 1000)
"""torch's total memory over what nvidia-smi prints, where only the latter is known: nine devices for which both are
known lie between 0.979 and 0.996."""

_CUBLAS_WORKSPACE = 8 * MIB + 128 * 1024
_CUBLAS_WORKSPACE_LARGE = 32 * MIB
_CUBLAS_WORKSPACE_GFX94 = 128 * MIB
"""torch 2.13 aten/src/ATen/cuda/CublasHandlePool.cpp: 8.125 MiB; 32 from sm90 and on ROCm; 128 on gfx94x and gfx95x."""


class GpuAmbiguous(Struct, frozen=True):
    """A name that several devices bear; `choices` are the spellings that tell them apart."""

    name: str
    choices: tuple[str, ...]


def find_gpu(name: str) -> Gpu | GpuAmbiguous | None:
    """The device called `name`: an id, an alias, the driver's product name, or a size such as `24GiB`.

    Spelling is forgiving: case, separators, the vendor's words and a trailing `GB` do not matter. A size makes
    a custom device; `GB` is read as card makers use it, 2^30 bytes. `<gpu>/<profile>` is a MIG slice.
    """
    rows = rows_named(name)
    if len(rows) == 1:
        return _gpu(rows[0])
    if rows:
        return GpuAmbiguous(name, tuple(sorted(telling_name(row) for row in rows)))
    if "/" in name:
        return _slice(*name.rsplit("/", 1))
    return _custom(name)


def gpu_row(name: str) -> GpuRow | None:
    """The catalog line of the device called `name`, None when there is none or several bear the name."""
    rows = rows_named(name)
    return rows[0] if len(rows) == 1 else None


def nearest_gpus(name: str, count: int = 3) -> tuple[str, ...]:
    """Ids of devices whose names resemble `name`."""
    from vramlint.catalog.nearest import nearest

    forms = normal_forms()
    close = nearest(normal(name), forms, count * 3, cutoff=0.6)
    return tuple(dict.fromkeys(forms[form] for form in close))[:count]


def smallest_gpus(bytes_needed: int, count: int = 3, *, bf16: bool = False) -> tuple[Gpu, ...]:
    """The smallest common training devices that offer `bytes_needed`, CUDA context included, smallest first.

    With `bf16`, only those that compute in it natively.
    """
    devices = [_gpu(row) for row in all_gpus() if row.common]
    fitting = [gpu for gpu in devices if gpu.usable_bytes >= bytes_needed and (gpu.bf16 or not bf16)]
    return tuple(sorted(fitting, key=lambda gpu: (gpu.usable_bytes, gpu.id))[:count])


def _gpu(row: GpuRow) -> Gpu:
    memory = (row.memory_mib or row.marketed_gb * 1024) * MIB
    capability = _capability(row.compute_capability)
    return Gpu(
        id=row.id,
        name=row.name,
        memory_bytes=memory,
        usable_bytes=_usable(row, memory),
        compute_capability=capability,
        bf16=row.bf16 == "native",
        context_bytes=_CONTEXTS.get(capability or (0, 0), CONTEXT_BYTES),
        cublas_workspace_bytes=_workspace(row.compute_capability, capability),
        multiprocessors=row.multiprocessors,
    )


def _usable(row: GpuRow, memory: int) -> int:
    if row.usable_mib is not None:
        return row.usable_mib * MIB
    if row.torch_total_gib is not None:
        return int(row.torch_total_gib * GIB)
    return _below_driver(memory)


def _below_driver(memory: int) -> int:
    return memory * _CEILING[0] // _CEILING[1]


def _capability(text: str) -> tuple[int, int] | None:
    major, dot, minor = text.partition(".")
    return (int(major), int(minor)) if dot and major.isdigit() and minor.isdigit() else None


def _workspace(text: str, capability: tuple[int, int] | None) -> int:
    if text.startswith(("gfx94", "gfx95")):
        return _CUBLAS_WORKSPACE_GFX94
    if text.startswith("gfx") or (capability is not None and capability >= (9, 0)):
        return _CUBLAS_WORKSPACE_LARGE
    return _CUBLAS_WORKSPACE


_SIZE = r"(?P<number>\d{1,5}(?:\.\d{1,3})?)\s*(?P<unit>[gmt])i?b"
_SIZE_UNITS = {"m": MIB, "g": GIB, "t": 1024 * GIB}


def _custom(text: str) -> Gpu | None:
    """A device of which only the size is known; taken to compute in bfloat16."""
    match = re.fullmatch(_SIZE, text.strip().lower())
    if not match:
        return None
    memory = int(float(match["number"]) * _SIZE_UNITS[match["unit"]])
    if not memory:
        return None
    name = f"{match['number']} {match['unit'].upper()}iB"
    return Gpu(name.replace(" ", ""), name, memory, _below_driver(memory), None, True, CONTEXT_BYTES, _CUBLAS_WORKSPACE)


def _slice(parent: str, profile: str) -> Gpu | None:
    """A MIG slice: torch sees the slice's memory as the whole device."""
    whole = gpu_row(parent)
    if whole is None:
        return None
    for _, found, memory_mib, _status in lines("mig.tsv").starting_with(whole.id, profile):
        base = _gpu(whole)
        memory = int(memory_mib) * MIB
        return Gpu(
            id=f"{whole.id}/{found}",
            name=f"{whole.name} MIG {found}",
            memory_bytes=memory,
            usable_bytes=memory,
            compute_capability=base.compute_capability,
            bf16=base.bf16,
            context_bytes=base.context_bytes,
            cublas_workspace_bytes=base.cublas_workspace_bytes,
        )
    return None

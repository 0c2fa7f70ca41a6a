"""The lines of gpus.tsv: what is known about each accelerator, and under which names people know it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from msgspec import Struct

from vramlint.catalog.lines import lines


class GpuRow(Struct, frozen=True):
    """One line of the catalog. None: not known."""

    id: str
    common: bool
    """One of the devices that people usually train on."""
    name: str
    aliases: tuple[str, ...]
    vendor: str
    architecture: str
    compute_capability: str
    """`8.6` for CUDA devices, `gfx942` for ROCm, a word for the rest."""
    multiprocessors: int | None
    """torch's multi_processor_count; of NVIDIA devices."""
    kind: str
    """datacenter, workstation, consumer, laptop, embedded, unified."""
    marketed_gb: int
    memory_mib: int | None
    memory_status: str
    """verified, recalled, nominal."""
    torch_total_gib: float | None
    usable_mib: int | None
    bandwidth_gbs: float | None
    """GB/s (10^9), vendor figure."""
    tflops_bf16: float | None
    """Dense TFLOP/s with fp32 accumulation; where bfloat16 is not native, see `tflops_fp16`."""
    tflops_fp16: float | None
    bf16: str
    """native, emulated, no."""
    fp8: bool
    flash_attention_2: bool
    flash_attention_3: bool
    interconnect: str
    interconnect_gbs: float | None
    unified_memory: bool
    note: str


COLUMNS = (
    "id",
    "common",
    "name",
    "aliases",
    "vendor",
    "architecture",
    "compute_capability",
    "multiprocessors",
    "class",
    "marketed_gb",
    "memory_mib",
    "memory_mib_old",
    "memory_status",
    "torch_total_gib",
    "torch_total_status",
    "usable_mib",
    "bandwidth_gbs",
    "tflops_fp16",
    "tflops_bf16",
    "tflops_status",
    "bf16",
    "fp8",
    "flash_attention_2",
    "flash_attention_3",
    "interconnect",
    "interconnect_gbs",
    "unified_memory",
    "note",
)
"""The columns of gpus.tsv, as its last comment line names them."""


def all_gpus() -> Iterator[GpuRow]:
    """Every device, sorted by id."""
    return (_parse(columns) for columns in lines("gpus.tsv"))


def rows_named(name: str) -> tuple[GpuRow, ...]:
    """The devices that bear a name, however it is spelt: none, one, or several where it is ambiguous."""
    return tuple(_parse(columns) for columns in _index().get(normal(name), ())) if name else ()


def normal_forms() -> Mapping[str, str]:
    """Every normal form of a name with the id of the first device that bears it."""
    return {form: bearers[0][0] for form, bearers in _index().items()}


_VENDOR_WORDS = r"nvidia|geforce|tesla|quadro|amd|instinct|radeon"
_GIGABYTES = r"(?<=\d)[ _-]*gi?b(?![a-z])|(?<=[ _-]\d\d)g(?![a-z])"
_SEPARATORS = r"[^a-z0-9.\n]+"
_SERIES = r"(?m)^(?:rtx|gtx)"


def normal(names: str) -> str:
    """Names, one per line, without case, separators, vendor words, leading `RTX` and the unit of the memory size."""
    text = re.sub(_GIGABYTES, "", re.sub(_VENDOR_WORDS, "", names.lower()))
    return re.sub(_SERIES, "", re.sub(_SEPARATORS, "", text))


def telling_name(row: GpuRow) -> str:
    """The shortest name that `row` shares with no other device."""
    names = (row.id, row.name, *row.aliases)
    own = [name for name in names if len(_index()[normal(name)]) == 1]
    return min(own or names, key=lambda name: (len(name), name)).lower().replace(" ", "-")


@cache
def _index() -> Mapping[str, tuple[tuple[str, ...], ...]]:
    """Every normal form with the lines that bear it; a form with the memory size behind yields to a plain one."""
    exact: dict[str, tuple[tuple[str, ...], ...]] = {}
    sized: dict[str, tuple[tuple[str, ...], ...]] = {}
    table = tuple(lines("gpus.tsv"))
    names = [(columns[_ID], columns[_NAME], *columns[_ALIASES].split(" | ")) for columns in table]
    forms = iter(normal("\n".join(name for several in names for name in several)).split("\n"))
    for columns, several in zip(table, names, strict=True):
        for form in dict.fromkeys(next(forms) for _ in several):
            if not form:
                continue
            exact[form] = (*exact.get(form, ()), columns)
            with_size = form + columns[_MARKETED_GB]
            sized[with_size] = (*sized.get(with_size, ()), columns)
    return {**sized, **exact}


_ID, _NAME, _ALIASES, _MARKETED_GB = (COLUMNS.index(name) for name in ("id", "name", "aliases", "marketed_gb"))


def _parse(columns: tuple[str, ...]) -> GpuRow:
    cells = dict(zip(COLUMNS, columns, strict=True))
    return GpuRow(
        id=cells["id"],
        common=cells["common"] == "yes",
        name=cells["name"],
        aliases=tuple(alias for alias in cells["aliases"].split(" | ") if alias),
        vendor=cells["vendor"],
        architecture=cells["architecture"],
        compute_capability=cells["compute_capability"],
        multiprocessors=_integer(cells["multiprocessors"]),
        kind=cells["class"],
        marketed_gb=int(cells["marketed_gb"]),
        memory_mib=_integer(cells["memory_mib"]),
        memory_status=cells["memory_status"],
        torch_total_gib=_number(cells["torch_total_gib"]),
        usable_mib=_integer(cells["usable_mib"]),
        bandwidth_gbs=_number(cells["bandwidth_gbs"]),
        tflops_bf16=_number(cells["tflops_bf16"]),
        tflops_fp16=_number(cells["tflops_fp16"]),
        bf16=cells["bf16"],
        fp8=cells["fp8"] == "yes",
        flash_attention_2=cells["flash_attention_2"] == "yes",
        flash_attention_3=cells["flash_attention_3"] == "yes",
        interconnect=cells["interconnect"],
        interconnect_gbs=_number(cells["interconnect_gbs"]),
        unified_memory=cells["unified_memory"] == "yes",
        note=cells["note"],
    )


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _integer(cell: str) -> int | None:
    return int(cell) if cell else None

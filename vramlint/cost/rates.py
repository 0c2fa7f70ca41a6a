"""How fast a card computes and moves bytes: vendor figures of its catalog row, and how much of them programs reach."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.catalog.gpus import GpuRow, gpu_row
from vramlint.cost.utilisation import Utilisation, utilisation_of
from vramlint.job import Gpu

GIGA, TERA = 10**9, 10**12

HOST_LINKS: Mapping[str, float] = MappingProxyType(
    {"volta": 32, "turing": 32, "ampere": 64, "ampere-dc": 64, "ada": 64, "hopper": 128, "blackwell-dc": 128}
)
"""GB/s of a card's PCI Express, both directions together, where its row names the link between cards.

NVIDIA's data sheets of V100 (32), A100 (64) and H100 (128), and the generation of their relatives.
"""
_PCIE: Mapping[str, float] = MappingProxyType({"3": 32, "4": 64, "5": 128})
"""GB/s of 16 lanes by generation, both directions together."""

_SLOWER: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("ampere-dc", "datacenter"): 16,
        ("hopper", "datacenter"): 14.8,
        ("volta", ""): 8,
        ("turing", ""): 8,
        ("turing", "consumer"): 4,
        ("ampere", ""): 4,
        ("ampere", "consumer"): 2,
        ("ada", ""): 4,
        ("ada", "consumer"): 2,
        ("blackwell", ""): 4,
        ("blackwell", "consumer"): 2,
        ("blackwell-dc", ""): 30,
        ("cdna2", ""): 4,
        ("cdna3", ""): 8,
    }
)
"""The 16-bit rate over that of float32 without TF32, by architecture and class: GeForce's tensor cores run at half
their rate. Data sheets of A100 (312 and 19.5 TFLOP/s), H100 (989 and 67), V100 (125 and 15.7), T4 (65 and 8.1),
RTX 2080 Ti (53.8 and 13.4), A40 (149.7 and 37.4), RTX 3090 (71 and 35.6), L4 (121 and 30.3), RTX 4090 (165.2 and 82.6),
RTX PRO 6000 (503.8 and 125), RTX 5090 (209.5 and 104.8), B200 (2250 and 75), MI250 (181 and 45.3 of a die), MI300X
(1307 and 163.4)."""
_SLOWER_CARDS: Mapping[str, float] = MappingProxyType(
    {"a10g": 2, "l20": 2, "l40": 2, "h20-96gb": 3.4, "h20-141gb": 3.4, "titan-rtx": 8}
)
"""Those whose tensor cores are cut down, by their data sheets (A10G 70 and 35, L40 181 and 90.5, H20 148 and 44)."""


class Rates(Struct, frozen=True):
    """Per second; None: the catalog does not say."""

    flops: Mapping[str, float]
    """By dtype of the product."""
    utilisation: Utilisation | None
    memory: float | None
    """Bytes of the card's own memory."""
    links: float | None
    """Bytes to other cards of the machine, in one direction."""
    host: float | None
    """Bytes to or from host memory, in one direction."""


def rates_of(gpu: Gpu | None) -> Rates | None:
    """The rates of a card; None for one of which only the size is known."""
    row = gpu_row(gpu.id) if gpu is not None else None
    if row is None:
        return None
    flops = {"bfloat16": row.tflops_bf16, "float16": row.tflops_fp16, "float32": _float32(row)}
    return Rates(
        {dtype: TERA * rate for dtype, rate in flops.items() if rate},
        utilisation_of(row),
        GIGA * row.bandwidth_gbs if row.bandwidth_gbs else None,
        GIGA * row.interconnect_gbs / 2 if row.interconnect_gbs else None,
        _host(row.interconnect, row.architecture),
    )


def _float32(row: GpuRow) -> float | None:
    """TFLOP/s of float32 products as torch makes them by default: without TF32."""
    kind = "consumer" if row.kind == "laptop" else row.kind
    of_kind = _SLOWER.get((row.architecture, kind)) or _SLOWER.get((row.architecture, ""))
    slower = _SLOWER_CARDS.get(row.id) or of_kind
    rate = row.tflops_fp16 or row.tflops_bf16
    return rate / slower if rate and slower else None


def _host(interconnect: str, architecture: str) -> float | None:
    found = re.search(r"pcie(\d)(?: x(\d+))?", interconnect)
    both = _PCIE.get(found[1], 0) * int(found[2] or 16) / 16 if found else HOST_LINKS.get(architecture, 0)
    return GIGA * both / 2 if both else None

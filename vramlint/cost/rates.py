"""How fast a card computes and moves bytes: vendor figures of its catalog row, and how much of them programs reach."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vramlint.catalog.gpus import gpu_row
from vramlint.job import Gpu

GIGA, TERA = 10**9, 10**12

UTILISATION: Mapping[str, tuple[float, float, str]] = MappingProxyType(
    {
        "ampere-dc": (0.39, 0.79, "A100"),
        "hopper": (0.32, 0.59, "H100"),
    }
)
"""Part of a card's 16-bit rate that training reaches, recomputation counted as work, by architecture.

The least and the most of the benchmarks of MPT with 125 million to 70 billion parameters, 139 on A100 and 70 on H100
(mosaicml/llm-foundry@8c8dd48 scripts/train/benchmarking/README.md, column HFU, bf16).
"""

HOST_LINKS: Mapping[str, float] = MappingProxyType(
    {"volta": 32, "turing": 32, "ampere": 64, "ampere-dc": 64, "ada": 64, "hopper": 128, "blackwell-dc": 128}
)
"""GB/s of a card's PCI Express, both directions together, where its row names the link between cards.

NVIDIA's data sheets of V100 (32), A100 (64) and H100 (128), and the generation of their relatives.
"""
_PCIE: Mapping[str, float] = MappingProxyType({"3": 32, "4": 64, "5": 128})
"""GB/s of 16 lanes by generation, both directions together."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second; None: the catalog does not say."""

    flops: Mapping[str, float]
    """By dtype of the product."""
    utilisation: tuple[float, float] | None
    measured_on: str
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
    flops = {"bfloat16": row.tflops_bf16, "float16": row.tflops_fp16}
    low, high, measured = UTILISATION.get(row.architecture, (0.0, 0.0, ""))
    return Rates(
        {dtype: TERA * rate for dtype, rate in flops.items() if rate},
        (low, high) if measured else None,
        measured,
        GIGA * row.bandwidth_gbs if row.bandwidth_gbs else None,
        GIGA * row.interconnect_gbs / 2 if row.interconnect_gbs else None,
        _host(row.interconnect, row.architecture),
    )


def _host(interconnect: str, architecture: str) -> float | None:
    found = re.search(r"pcie(\d)(?: x(\d+))?", interconnect)
    both = _PCIE.get(found[1], 0) * int(found[2] or 16) / 16 if found else HOST_LINKS.get(architecture, 0)
    return GIGA * both / 2 if both else None

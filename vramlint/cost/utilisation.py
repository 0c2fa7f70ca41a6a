"""How much of a card's 16-bit rate training reaches: as published, else from what its memory can feed."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from types import MappingProxyType
from typing import NamedTuple

from vramlint.catalog.gpus import GpuRow


class Utilisation(NamedTuple):
    """A part of the full rate, the least and the most, and where that comes from."""

    least: float
    most: float
    source: str
    balance: float = 0.0
    """FLOPs of the measured card for each byte that its memory moves; 0: it holds for one card alone."""


MEASURED: Mapping[str, Utilisation] = MappingProxyType(
    {
        # mosaicml/llm-foundry@8c8dd48 scripts/train/benchmarking/README.md, column HFU, bf16: the least and the most of
        # MPT with 125 million to 70 billion parameters, 139 runs on A100 and 70 on H100
        "ampere-dc": Utilisation(0.39, 0.79, "as training reaches on A100", 153),
        "hopper": Utilisation(0.32, 0.59, "as training reaches on H100", 295),
        # 15.1 PFLOP/s of 512 cards: https://arxiv.org/abs/1909.08053, section 5.1; 64 TFLOP/s of one for BERT:
        # https://www.deepspeed.ai/2020/05/27/fastest-bert-training.html
        "volta": Utilisation(0.24, 0.51, "as training reaches on V100", 139),
        # AI-Hypercomputer/maxtext MaxText/configs/v5e: 16 to 128 billion parameters on 256 to 8192 chips
        "tpu-v5e": Utilisation(0.46, 0.67, "as training reaches on TPU v5e"),
        # PaLM, without and with recomputation counted: https://arxiv.org/abs/2204.02311, section 4.1
        "tpu-v4": Utilisation(0.46, 0.58, "as training reaches on TPU v4"),
    }
)
"""By architecture, for cards of about the same balance, or by the card's id."""

REFERENCE = MEASURED["ampere-dc"]
MARGIN = 2.0, 1.2
"""How far below and above the derived range may reach: with it, it holds all ranges of `MEASURED`, and the 260 TFLOP/s
of Gaudi 2's 432 (https://www.databricks.com/blog/llm-training-and-inference-intel-gaudi2-ai-accelerators)."""
CEILING = 0.92
"""The most that is published of any card: LoRA of Llama 3.1 8B on an RTX 4090, whose clock goes beyond its data sheet's
(pytorch/torchtune README.md, 3083 tokens a second)."""


def utilisation_of(row: GpuRow) -> Utilisation | None:
    """The range of a card; None of one whose rates are not known.

    Element-wise operators wait for memory, so the part goes down as a card computes more for each byte that it moves:
    with the square root, as between A100 and H100 (0.79 to 0.59 at 153 to 295 operations a byte).
    """
    rate = row.tflops_bf16 or row.tflops_fp16
    if not rate or not row.bandwidth_gbs:
        return None
    balance = 1000 * rate / row.bandwidth_gbs
    known = MEASURED.get(row.id) or MEASURED.get(row.architecture)
    if known is not None and (not known.balance or 0.5 <= balance / known.balance <= 2):
        return known
    factor = min(1.0, sqrt(REFERENCE.balance / balance))
    least, most = REFERENCE.least * factor / MARGIN[0], min(CEILING, REFERENCE.most * factor * MARGIN[1])
    return Utilisation(least, most, f"from A100's by {balance:.0f} operations a byte, as nobody published this card's")

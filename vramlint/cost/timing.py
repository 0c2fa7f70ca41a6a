"""How long a step takes: the work of each resource at its rate, one beside the other or one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from vramlint.cost.rates import Rates
from vramlint.cost.traffic import UNPACKED
from vramlint.estimate import Traffic, Work

SMALL = 0.02
"""Products in a dtype of no known rate that take less than this part of all count at the rate of the others."""

UNPACKING = 0.20, 0.31
"""Part of the memory's bandwidth that bitsandbytes reaches when it unpacks 4-bit weights.

By what QLoRA takes longer than LoRA for each micro batch on an A10G: 88 to 206 ms more for 2.5 to 7.2 billion
parameters, unpacked twice, without checkpointing (Lightning-AI/litgpt config_hub/finetune/README.md: gemma-2b, phi-2,
phi-3, llama-2-7b, mistral-7b, falcon-7b).
"""

UPDATES: Mapping[str, tuple[float, float]] = MappingProxyType({"deepspeed": (0.22, 1.2), "fsdp": (1.39, 5.6)})
"""Seconds for the update of 10⁹ parameters by the cores of one machine: DeepSpeedCPUAdam, and torch's Adam.

Measured on two Xeon 8168, 0.22 to 0.30 and 1.39 to 1.49 (https://arxiv.org/abs/2101.06840, table 4). It goes with the
bandwidth of the host's memory, so a desktop with two of those machine's twelve channels may take four times that.
"""


class Load(Struct, frozen=True):
    """Seconds of each resource, the cores at their full rate."""

    compute: float
    links: float
    host: float
    memory: float
    unpacking: float = 0.0
    """At the memory's full rate."""
    update: tuple[float, float] = (0.0, 0.0)
    """Of the host's cores, the least and the most."""

    def beside(self, utilisation: float) -> float:
        """Links and the host are busy while the cores compute; the update comes after that."""
        passing = max(self.compute / utilisation, self.links, self.host)
        return passing + self.memory + self.unpacking / UNPACKING[1] + self.update[0]

    def apart(self, utilisation: float) -> float:
        """Nothing runs beside anything else."""
        passing = self.compute / utilisation + self.links + self.host
        return passing + self.memory + self.unpacking / UNPACKING[0] + self.update[1]


def load_of(
    work: Sequence[Work],
    batches: int,
    bubble: float,
    traffic: Sequence[Traffic],
    rates: Rates,
    machines: int,
    update: tuple[float, float] = (0.0, 0.0),
) -> Load | str:
    """The load of a step of `batches` micro batches, or what is not known.

    `update` is what the cores of the host take for theirs, in seconds, the least and the most.
    """
    compute = _computing(work, rates)
    if isinstance(compute, str):
        return compute
    seconds = {}
    for link, speed in (("gpus", rates.links), ("host", rates.host), ("memory", rates.memory)):
        moved = sum(item.bytes for item in traffic if item.link == link and item.name != UNPACKED)
        if moved and speed is None:
            return f"the catalog has no bandwidth of {_NAMES[link]}"
        seconds[link] = moved / speed if speed else 0.0
    if machines > 1 and seconds["gpus"]:
        return "no file says how fast the machines are connected"
    unpacked = sum(item.bytes for item in traffic if item.name == UNPACKED)
    return Load(
        batches * compute / (1 - bubble),
        seconds["gpus"],
        seconds["host"],
        seconds["memory"],
        unpacked / rates.memory if rates.memory else 0.0,
        update,
    )


_NAMES = {
    "gpus": "the links between these cards",
    "host": "this card's link to its host",
    "memory": "this card's memory",
}


def _computing(work: Sequence[Work], rates: Rates) -> float | str:
    """Seconds of all products at the full rate of their dtype."""
    total = sum(item.flops for item in work)
    known = {dtype: flops for dtype, flops in _by_dtype(work) if rates.flops.get(dtype)}
    unknown = sorted({item.dtype for item in work} - known.keys())
    if sum(known.values()) < (1 - SMALL) * total:
        return f"the catalog has no rate of this card for products in {', '.join(unknown)}"
    seconds = sum(flops / rates.flops[dtype] for dtype, flops in known.items())
    return seconds * total / sum(known.values())


def _by_dtype(work: Sequence[Work]) -> Iterator[tuple[str, int]]:
    for dtype in sorted({item.dtype for item in work}):
        yield dtype, sum(item.flops for item in work if item.dtype == dtype)

"""How long a step takes: the work of each resource at its rate, one beside the other or one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vramlint.cost.rates import Rates
from vramlint.estimate import Traffic, Work

NARROW = ("bfloat16", "float16")
SMALL = 0.02
"""Products in another dtype that take less than this part of all, as a router's, count at the rate of the others."""


@dataclass(frozen=True, slots=True)
class Load:
    """Seconds of each resource, the cores at their full rate."""

    compute: float
    links: float
    host: float
    memory: float

    def beside(self, utilisation: float) -> float:
        """Links and the host are busy while the cores compute; the update comes after that."""
        return max(self.compute / utilisation, self.links, self.host) + self.memory

    def apart(self, utilisation: float) -> float:
        """Nothing runs beside anything else."""
        return self.compute / utilisation + self.links + self.host + self.memory


def load_of(
    work: Sequence[Work], batches: int, bubble: float, traffic: Sequence[Traffic], rates: Rates, machines: int
) -> Load | str:
    """The load of a step of `batches` micro batches, or what is not known."""
    rate = _rate(work, rates)
    if isinstance(rate, str):
        return rate
    seconds = {}
    for link, speed in (("gpus", rates.links), ("host", rates.host), ("memory", rates.memory)):
        moved = sum(item.bytes for item in traffic if item.link == link)
        if moved and speed is None:
            return f"the catalog has no bandwidth of {_NAMES[link]}"
        seconds[link] = moved / speed if speed else 0.0
    if machines > 1 and seconds["gpus"]:
        return "no file says how fast the machines are connected"
    compute = batches * sum(item.flops for item in work) / rate / (1 - bubble)
    return Load(compute, seconds["gpus"], seconds["host"], seconds["memory"])


_NAMES = {
    "gpus": "the links between these cards",
    "host": "this card's link to its host",
    "memory": "this card's memory",
}


def _rate(work: Sequence[Work], rates: Rates) -> float | str:
    """The rate of the dtype that nearly all products have."""
    total = sum(item.flops for item in work)
    for dtype, flops in _by_dtype(work):
        if flops >= (1 - SMALL) * total:
            rate = rates.flops.get(dtype)
            return rate if rate else f"the catalog has no rate of this card for products in {dtype}"
    return "products in several dtypes have several rates"


def _by_dtype(work: Sequence[Work]) -> Iterator[tuple[str, int]]:
    for dtype in sorted({item.dtype for item in work}):
        yield dtype, sum(item.flops for item in work if item.dtype == dtype)

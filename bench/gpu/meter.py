"""What the device holds between marks: torch's own counters, and the driver's.

`allocated` is torch.cuda.max_memory_allocated: blocks of the caching allocator, with remainders that it does not split
off. `requested` leaves rounding and remainders out. `reserved` is max_memory_reserved. `device` is what the driver says
is used of the whole device at the end of a phase: segments, the CUDA context, loaded kernels.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Counters:
    """Bytes."""

    allocated: int = 0
    requested: int = 0
    reserved: int = 0
    device: int = 0


@dataclass(slots=True)
class Span:
    """One phase of one step."""

    phase: str
    step: int
    start: Counters
    end: Counters
    peak: Counters

    def figures(self) -> dict[str, int]:
        """The peaks by name."""
        return asdict(self.peak)


class Gauge(Protocol):
    """Where the counters come from."""

    def now(self) -> Counters:
        """What is held."""

    def restart(self) -> None:
        """Forget the peaks."""

    def peaks(self) -> Counters:
        """The highest since the last restart."""


class CudaGauge:
    """The caching allocator and the driver."""

    def __init__(self) -> None:
        self.cuda: Any = import_module("torch").cuda

    def now(self) -> Counters:
        """Bytes held after everything that was launched is done."""
        self.cuda.synchronize()
        return self._counters("current")

    def restart(self) -> None:
        """Peaks become what is held now."""
        self.cuda.reset_peak_memory_stats()

    def peaks(self) -> Counters:
        """Peaks; the driver has none, so `device` is what is used now, which only grows while segments are kept."""
        self.cuda.synchronize()
        return self._counters("peak")

    def _counters(self, which: str) -> Counters:
        stats = self.cuda.memory_stats()
        free, whole = self.cuda.mem_get_info()
        allocated, requested, reserved = (
            stats[f"{name}_bytes.all.{which}"] for name in ("allocated", "requested", "reserved")
        )
        return Counters(allocated, requested, reserved, whole - free)


class NoGauge:
    """A device without an allocator to ask: only the phases are known."""

    def now(self) -> Counters:
        """Nothing is known."""
        return Counters()

    def restart(self) -> None:
        """Nothing to forget."""

    def peaks(self) -> Counters:
        """Nothing is known."""
        return Counters()


class Meter:
    """The spans of a run. `begin` ends the span before it; each is named on stderr, for the case that none follows."""

    def __init__(self, gauge: Gauge) -> None:
        self.gauge = gauge
        self.spans: list[Span] = []
        self.open: tuple[str, int, Counters] | None = None
        self.started = time.perf_counter()

    def begin(self, phase: str, step: int = 0) -> None:
        """A phase begins."""
        self.end()
        now = self.gauge.now()
        self.gauge.restart()
        self.open = (phase, step, now)
        print(f"{time.perf_counter() - self.started:6.1f} s  {phase} of step {step}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The phase that is open ends."""
        if self.open is not None:
            phase, step, start = self.open
            self.open = None
            self.spans.append(Span(phase, step, start, self.gauge.now(), self.gauge.peaks()))

    @property
    def phase(self) -> str:
        """The phase that is open, else the last one."""
        if self.open is not None:
            return self.open[0]
        return self.spans[-1].phase if self.spans else "start"

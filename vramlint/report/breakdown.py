"""The table that says where the memory goes."""

from __future__ import annotations

from vramlint.estimate import Amount, Estimate
from vramlint.report.style import Style
from vramlint.report.words import GIB, gib, number, printable

_BAR = 28
_SMALL = 1 << 24
"""Components below 16 MiB are summed up: alone they print as 0.01 GiB and say nothing."""
_NOTHING = 5 * GIB // 1000
"""Prints as 0.00 GiB."""
_WORTH_SAYING = 50
"""The allocator's slack is shown from a fiftieth of the total on."""


def parts(estimate: Estimate) -> list[Amount]:
    """What makes up `device`: the components, and what torch doesn't count."""
    components = sorted(estimate.components, key=lambda amount: -amount.bytes)
    rows = [amount for amount in components if amount.bytes >= _SMALL]
    rest = sum(amount.bytes for amount in components if amount.bytes < _SMALL)
    rows += [Amount("small parts", rest)] if rest > _NOTHING else []
    rows += [Amount("fragmentation", estimate.fragmentation)] if estimate.fragmentation > _NOTHING else []
    rows += [Amount("outside torch", estimate.outside)] if estimate.outside > 0 else []
    return rows


def table(estimate: Estimate, style: Style, gpu: tuple[str, int] | None = None) -> list[str]:
    """Aligned rows `name  GiB  bar`, the total, what is held with cached segments, and the GPU's capacity if known."""
    rows = parts(estimate)
    total = max(estimate.device, 1)
    ends = [("total", estimate.device)]
    if (estimate.device_high - estimate.device) * _WORTH_SAYING > estimate.device:
        ends.append(("with cached segments", estimate.device_high))
    ends += [(printable(gpu[0]), gpu[1])] if gpu else []
    names = [printable(amount.name) for amount in rows]
    wide = max(len(name) for name in [*names, *(name for name, _ in ends)])
    figures = max(len(number(size)) for size in [total, *(size for _, size in ends)])
    lines = [
        f"{name:<{wide}}  {number(amount.bytes):>{figures}}  {style('bar', bar(amount.bytes / total))}".rstrip()
        for name, amount in zip(names, rows, strict=True)
    ]
    lines.append(style("faint", "─" * (wide + 2 + figures)))
    for name, size in ends:
        lines.append(style("strong", f"{name:<{wide}}  {number(size):>{figures}}"))
    return lines


def bar(share: float) -> str:
    """A bar of up to 28 columns, drawn to an eighth of a column."""
    eighths = round(max(0.0, min(share, 1.0)) * _BAR * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[rest]


def phases(estimate: Estimate) -> str:
    """`forward 30.10, backward 44.30, optimizer 91.42 GiB allocated; the peak is in optimizer`."""
    if not estimate.phases:
        return ""
    figures = ", ".join(f"{phase.phase} {number(phase.allocated)}" for phase in estimate.phases)
    return f"{figures} GiB allocated; the peak is in {estimate.peak_phase}"


def worst_rank(estimate: Estimate) -> str:
    """`stage 0 of 16 needs the most of 16 kinds of rank: 6 layers, embedding`; empty where all are alike."""
    worst = max(estimate.ranks, key=lambda peak: peak.device, default=None)
    if worst is None:
        return ""
    why = f": {worst.holds}" if worst.holds else ""
    return f"{worst.name} needs the most of {len(estimate.ranks)} kinds of rank{why}"


def method(estimate: Estimate) -> str:
    """How good the figure is, in words, for figures that are no simulation."""
    if estimate.method == "simulated":
        return ""
    least = gib(estimate.device_low)
    return f"at least {least}: this step is not simulated, so the figure is a lower bound"

"""`diff` as text."""

from __future__ import annotations

from vramlint.comparison import Cause, Changed, Comparison, Side
from vramlint.report.style import Style
from vramlint.report.view import View
from vramlint.report.words import count, gib, number, printable


def render(comparison: Comparison, view: View) -> str:
    """A line for each run whose peak changed, and the causes below it."""
    style = Style(color=view.color)
    lines: list[str] = []
    for one in comparison.changed:
        role = "error" if one.broke else "strong"
        lines.append(f"{style(role, printable(one.name))}: {sentence(one)}")
        lines += [f"  {told(cause)}" for cause in one.causes if len(one.causes) > 1]
    states = f"{printable(comparison.before)} → {printable(comparison.after)}"
    lines.append(f"{states}: {count(len(comparison.changed), 'run')} changed, {comparison.unchanged} unchanged")
    return "\n".join(lines) + "\n"


def sentence(one: Changed) -> str:
    """`peak from 21.30 to 24.40 GiB (+3.10: sequence length 2048 → 4096), no longer fits RTX 3090`."""
    if one.before is None:
        return f"new, {state(one.after)}"
    if one.after is None:
        return f"gone, {state(one.before)}"
    if one.rise is None or one.before.need is None or one.after.need is None:
        return f"{state(one.before)} before, {state(one.after)} now"
    verdict = ""
    if one.before.fits != one.after.fits and one.after.fits is not None:
        verdict = f", {'fits' if one.after.fits else 'no longer fits'} {one.after.gpu}"
    why = f": {change(one.causes[0])}" if len(one.causes) == 1 else ""
    return f"peak from {number(one.before.need)} to {gib(one.after.need)} ({signed(one.rise)}{why}){verdict}"


def state(side: Side | None) -> str:
    """What is known of one side: `needs 21.30 GiB`, or why that is not known."""
    if side is None:
        return "not there"
    if side.need is None:
        return f"no figure ({printable(side.reason)})" if side.reason else "no figure"
    return f"needs {gib(side.need)}"


def told(cause: Cause) -> str:
    """`+3.10  sequence length 2048 → 4096`."""
    return f"{signed(cause.bytes)}  {change(cause)}"


def change(cause: Cause) -> str:
    """`sequence length 2048 → 4096`."""
    return f"{cause.name} {printable(cause.before)} → {printable(cause.after)}"


def signed(size: int) -> str:
    """Bytes as GiB with their sign: `+3.10`."""
    return f"{'−' if size < 0 else '+'}{number(abs(size))}"

"""`fit` as text: each job with its plans as a table, the best one first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from vramlint.estimate import Slowdown
from vramlint.plans import Change, FitReport, Fitting, Largest, Plan, WhyNot
from vramlint.report.style import Style
from vramlint.report.view import View
from vramlint.report.words import count, gib, number, printable

SAME = "the same"
GPUS = "gpus"
"""Of the allowances the one of which the number is said."""
_BY_HAND = "by hand: "
_TITLES = ("", "peak, GiB", "step time", "result", "changes")


def render(path: str, report: FitReport, view: View) -> str:
    """All jobs of a file, one below the other."""
    style = Style(view.color)
    blocks = ["\n".join(_job(path, job, style)) for job in report.jobs]
    return "\n\n".join(blocks) + "\n"


def _job(path: str, job: Fitting, style: Style) -> Iterator[str]:
    name = style("strong", printable(job.name))
    if job.status == "unresolved":
        yield f"{name}: no plan: {printable(job.reason or 'no GPU is declared')}"
        return
    if job.offers:
        yield from _offered(path, job, name, style)
        return
    yield f"{name} on {printable(job.gpu)}: {_verdict(job, style)}"
    yield from (f"  note: {printable(note)}" for note in job.notes)
    if job.largest is not None:
        yield from _largest(job.largest, style)
    if job.why_not is not None:
        yield from _why_not(job.why_not)
    elif job.plans:
        yield ""
        yield from _table(job.plans, style)
        yield ""
        yield from _otherwise(job)
        yield from _howto(path, job)
    elif job.status == "nothing":
        yield from _nearest(job, style)


def _offered(path: str, job: Fitting, name: str, style: Style) -> Iterator[str]:
    """The first plan for each machine."""
    style_of = "good" if job.plans else "bad"
    yield f"{name}: {style(style_of, f'{len(job.plans)} of {job.offers} machines would do')}"
    yield from (f"  note: {printable(note)}" for note in job.notes)
    if job.plans:
        priced = any(plan.price is not None for plan in job.plans)
        titles = ("", "GPU", "peak, GiB", "tokens/s", *(("per M tokens",) if priced else ()), "result", "changes")
        rows = [titles]
        for index, plan in enumerate(job.plans, start=1):
            price = (_price(plan.price),) if priced else ()
            head = (str(index), printable(plan.gpu), number(plan.peak), _rate(plan.tokens_per_second), *price)
            rows += _rows(head, plan)
        yield ""
        yield from _aligned(rows, style, left=(0, 1, len(titles) - 2, len(titles) - 1))
        yield ""
    for refused in job.refused:
        why = printable(refused.reason) or f"nothing fits; the nearest plan needs {gib(refused.need)}"
        yield f"  {printable(refused.gpu)}: {why}"
    if job.plans:
        one = f"`vramlint fit {printable(path)} --gpu {printable(job.plans[0].gpu)}`"
        yield f"  {one} shows all plans for one machine, `--apply N` makes the edits of plan N"


def _rate(tokens: tuple[float, float] | None) -> str:
    """Tokens per second, between two bounds, in three digits."""
    if tokens is None:
        return "?"
    least, most = (f"{float(f'{each:.2g}'):,.0f}" for each in tokens)
    return least if least == most else f"{least}–{most}"


def _price(price: tuple[float, float] | None) -> str:
    return "?" if price is None else f"{price[0]:.2g}–{price[1]:.2g}"


def _verdict(job: Fitting, style: Style) -> str:
    room = f"{number(job.usable)} usable"
    spare = f"{(job.usable - job.limit) / job.usable:.0%} of it left free"
    if job.largest is not None:
        return f"needs {gib(job.need)}, {room}, {spare}"
    if job.status == "fits":
        return style("good", f"fits: needs {gib(job.need)}") + f", {room}, {spare}"
    over = max(0, job.need - job.limit)
    return style("bad", f"needs {gib(job.need)}, {number(over)} too much") + f": {room}, {spare}"


def _table(plans: Sequence[Plan], style: Style) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [_TITLES]
    for index, plan in enumerate(plans, start=1):
        rows += _rows((str(index), number(plan.peak), times(plan.slowdown)), plan)
    yield from _aligned(rows, style, left=(0, 3, 4))


def _aligned(rows: Sequence[tuple[str, ...]], style: Style, left: Collection[int]) -> Iterator[str]:
    """The lines of a table, the first of which is its head; columns but those on the `left` are of figures."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number_, row in enumerate(rows):
        cells = (
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        line = f"  {'  '.join(cells)}".rstrip()
        yield line if number_ else style("strong", line)


def _rows(figures: tuple[str, ...], plan: Plan) -> Iterator[tuple[str, ...]]:
    """A plan: a line for each of its changes, the results beside them."""
    results = list(dict.fromkeys(change.result for change in plan.changes if change.result)) or [SAME]
    changes = [_words(change) for change in plan.changes] or ["none"]
    changes += [f"(takes {gib(plan.ram)} of host memory)"] if plan.ram else []
    for line in range(max(len(results), len(changes))):
        head = figures if not line else ("",) * len(figures)
        yield (*head, *(cells[line] if line < len(cells) else "" for cells in (results, changes)))


def _words(change: Change) -> str:
    package = f" (needs {change.package})" if change.package else ""
    return f"{_BY_HAND if change.by_hand else ''}{printable(change.description)}{package}"


def times(slowdown: Slowdown | None) -> str:
    """A factor: `1.25×`, `1.05–1.31×` between two bounds, `?` where nothing tells; `~` where a part is assumed."""
    if slowdown is None:
        return "?"
    least, most = f"{slowdown.least:.2f}", f"{slowdown.most:.2f}"
    mark = "~" if slowdown.left_out else ""
    return f"{mark}{most}×" if least == most else f"{mark}{least}–{most}×"


def _otherwise(job: Fitting) -> Iterator[str]:
    if job.status == "tight":
        yield f"  no plan leaves {(job.usable - job.limit) / job.usable:.0%} free; these just fit"
    if job.larger_gpus:
        yield f"  unchanged, it fits {_or(job.larger_gpus)}"
    if job.more_gpus is not None:
        yield f"  unchanged, it fits on {count(job.more_gpus, 'GPU')} of this kind"


def _howto(path: str, job: Fitting) -> Iterator[str]:
    if any(plan.edits for plan in job.plans):
        yield f"  `vramlint fit {printable(path)} --diff` shows the edits of plan 1, `--apply N` makes those of plan N"


def _nearest(job: Fitting, style: Style) -> Iterator[str]:
    yield style("bad", "nothing fits") + ("; nearest:" if job.nearest is not None else "")
    if job.nearest is not None:
        yield ""
        yield from _table((job.nearest,), style)
        yield ""
        over = max(0, job.nearest.peak - job.limit)
        yield f"  {gib(over)} too much even so"
    if job.larger_gpus:
        yield f"  {'so changed' if job.nearest is not None else 'unchanged'}, it fits {_or(job.larger_gpus)}"
    if job.more_gpus_changed is not None:
        yield f"  so changed, it fits on {count(job.more_gpus_changed, 'GPU')} of this kind"
    if job.allowances:
        gpus = f" ({count(job.allowed_gpus, 'GPU')})" if job.allowed_gpus else ""
        options = " or ".join(f"--allow {word}{gpus if word == GPUS else ''}" for word in job.allowances)
        yield f"  with {options}, a plan fits"
    if job.more_gpus is not None:
        yield f"  unchanged, it fits on {count(job.more_gpus, 'GPU')} of this kind"


def _or(names: Sequence[str]) -> str:
    return " or ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} or {names[-1]}"


def _largest(found: Largest, style: Style) -> Iterator[str]:
    if found.value is None:
        yield style("bad", f"no {found.setting} fits") + f" (now {found.now})"
        return
    bound = f" ({found.bound})" if found.bound else ""
    yield f"largest {found.setting} that fits: " + style("good", str(found.value)) + f", now {found.now}{bound}"
    if found.plan is not None:
        yield ""
        yield from _table((found.plan,), style)


def _why_not(found: WhyNot) -> Iterator[str]:
    if found.after is None:
        yield f"{found.name}: {found.reason}"
        return
    saved = found.before - found.after
    effect = f"takes {gib(saved)} off the peak" if saved >= 0 else f"adds {gib(-saved)} to the peak"
    yield f"{found.name} ({found.words}) alone {effect}: {number(found.before)} to {gib(found.after)}"
    yield f"  step time {times(found.slowdown)}; the training's result: {found.result or SAME}"
    yield f"  {found.reason}"

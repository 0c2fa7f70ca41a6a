"""`vramlint explain`: everything that is known about a run, and where each value comes from."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from vramlint.facts import Fact, Origin
from vramlint.findings import JobReport, Report
from vramlint.report import breakdown, computation
from vramlint.report.spots import Documents, where
from vramlint.report.style import Style
from vramlint.report.view import View
from vramlint.report.words import candidates, gib, number, printable, span_of

_LINE = 118
"""Columns of a line of prose in a table."""
_WIDEST = 44
"""Columns of the value in the table of facts; longer values push their line."""


def render(path: str, report: Report, view: View) -> str:
    """All jobs of one file."""
    style = Style(view.color)
    if not report.jobs:
        problems = [
            f"{where(finding.place, report.documents)}: {printable(finding.message)}" for finding in report.findings
        ]
        return "".join(f"{line}\n" for line in problems or [f"{printable(path)}: no training run found"])
    return "\n".join(_job(job, report.documents, style) for job in report.jobs)


def verdict(job: JobReport) -> tuple[str, str]:
    """The severity word and the sentence that opens a job."""
    low, high = job.low, job.high
    if low is None or high is None:
        return ("warning" if job.status == "unresolved" else "info"), f"{job.status}: {job.reason or 'no figure'}"
    needs = f"needs {span_of(low.device_low, high.device_need)} per GPU"
    if job.status == "unresolved":
        return "warning", f"unresolved: {job.reason}; as far as it is known, {needs}"
    if not job.gpu or job.gpu_usable is None:
        fits = ", ".join(job.fits_on)
        return "info", f"{needs}; {f'smallest common GPUs that would do: {fits}' if fits else 'no common GPU holds it'}"
    has = f"{needs}; {job.gpu} ({job.gpu_origin or 'declared'}) has {gib(job.gpu_usable)}"
    if low.device_low > job.gpu_usable:
        return "error", f"does not fit: {has}"
    if high.device_need > job.gpu_usable:
        return "warning", f"may not fit: {has}"
    if high.device_high > job.gpu_usable:
        return "warning", f"fits closely, cached segments must be given back: {has}"
    return "good", f"fits: {has}"


def _job(job: JobReport, documents: Documents, style: Style) -> str:
    role, sentence = verdict(job)
    lines = [f"{style('strong', printable(job.name))}: {style(role, printable(sentence))}"]
    if job.recognised is not None:
        told = job.recognised
        lines.append(printable(f"  read as {told.kind} {told.why}, confidence {told.confidence:.0%}"))
    lines += _section("facts", _facts(job.facts, documents), style)
    lines += _section("versions", _columns([(name, version, source) for name, version, source in job.versions]), style)
    if job.high:
        lines += _memory(job, style)
    return "\n".join(lines) + "\n"


def _memory(job: JobReport, style: Style) -> list[str]:
    high, low = job.high, job.low or job.high
    if high is None or low is None:
        return []
    gpu = (job.gpu, job.gpu_usable) if job.gpu and job.gpu_usable else None
    ends = "" if high == low else ", the high end"
    lines = _section(f"memory at the peak, GiB of one GPU{ends}", breakdown.table(high, style, gpu), style)
    if low != high:
        lines += _section("memory at the peak, the low end", breakdown.table(low, style, gpu), style)
    first = {peak.phase: number(peak.allocated) for peak in high.first_step}
    phases = [
        (
            peak.phase,
            number(peak.allocated),
            number(peak.reserved),
            first.get(peak.phase, ""),
            "peak" if peak.phase == high.peak_phase else "",
        )
        for peak in high.phases
    ]
    titles = ("", "allocated", "reserved", "first step", "")
    lines += _section("phases, GiB", _columns([titles, *phases]) if phases else [], style)
    most = max((peak.device for peak in high.ranks), default=0)
    ranks = [
        (
            peak.name,
            str(peak.ranks),
            number(peak.allocated),
            number(peak.device),
            "worst" if peak.device == most else "",
            peak.holds,
        )
        for peak in high.ranks
    ]
    heads = ("", "ranks", "allocated", "device", "", "with")
    lines += _section("kinds of rank, GiB", _columns([heads, *ranks]) if ranks else [], style)
    lines += _section(*_machine(job), style)
    beside = [(amount.name, gib(amount.bytes)) for amount in high.outside_parts]
    lines += _section("outside torch's allocator", _columns(beside) if len(beside) > 1 else [], style)
    kinds = [(amount.name, gib(amount.bytes)) for amount in high.activations]
    lines += _section("activations at the peak, by what made them", _columns(kinds), style)
    lines += _section("states", _states(job), style)
    tensors = [(printable(amount.name), gib(amount.bytes)) for amount in high.tensors]
    lines += _section("largest tensors at the peak", _columns(tensors), style)
    lines += _section("computation of a step", _computation(job), style)
    opened = [(name, f"{gib(size)} of the range") for name, size in job.contributions]
    lines += _section("what is open", _columns(opened), style)
    lines += _section("rules of thumb", _thumb(job), style)
    notes = [*([breakdown.method(high)] if high.method != "simulated" else []), *high.notes]
    return lines + _section("notes", list(map(printable, notes)), style)


def _thumb(job: JobReport) -> list[str]:
    """The rules of thumb under the simulated figure, with why each differs."""
    rows = [(name, gib(size), why) for name, size, why in job.thumb if size]
    if not rows or job.high is None:
        return []
    simulated = "every tensor of the step" if job.high.method == "simulated" else "a lower bound"
    rows.insert(0, ("this run", gib(job.high.device), simulated))
    indent = max(len(name) for name, _, _ in rows) + max(len(size) for _, size, _ in rows) + 4
    room = max(_LINE - indent, 40)
    wrapped: list[tuple[str, ...]] = []
    for name, size, why in rows:
        first, *rest = wrap(why, room) or [""]
        wrapped += [(name, size, first), *(("", "", line) for line in rest)]
    return _columns(wrapped, _LINE)


def _machine(job: JobReport) -> tuple[str, list[str]]:
    """Host memory of one machine, phase by phase, what is declared of it, and what is swapped out to NVMe."""
    node = job.high.node if job.high else None
    if node is None or not any(phase.bytes for phase in node.phases):
        return "", []
    rows = [
        (phase.phase, number(phase.bytes), ", ".join(f"{part.name} {number(part.bytes)}" for part in phase.components))
        for phase in node.phases
        if phase.bytes
    ]
    rounding = f"{number(node.rounding)} of it is rounding to powers of two"
    rows += [("page-locked", number(node.pinned), rounding)] if node.pinned else []
    rows += [("declared", number(job.ram), "")] if job.ram else []
    rows += [("on NVMe", number(node.disk), f"of {number(job.nvme)}" if job.nvme else "")] if node.disk else []
    count = "1 process" if node.processes == 1 else f"{node.processes} processes"
    return f"host memory of one machine ({count}), GiB", _columns(rows)


def _computation(job: JobReport) -> list[str]:
    """What a step computes and moves, and what that leaves out."""
    if job.cost is None:
        return []
    wrapped: list[tuple[str, ...]] = []
    indent = 48
    for name, figure, about in computation.rows(job.cost):
        first, *rest = wrap(about, _LINE - indent) or [""]
        wrapped += [(name, figure, first), *(("", "", line) for line in rest)]
    return [*_columns(wrapped, _LINE), *job.cost.notes]


def _states(job: JobReport) -> list[str]:
    high = job.high
    if high is None:
        return []
    rows = [
        ("parameters", gib(high.parameters), f"{high.trainable_parameters:,} of {high.total_parameters:,} trainable"),
        ("gradients", gib(high.gradients), ""),
        ("optimizer states", gib(high.optimizer_states), ""),
        ("saved for backward", gib(high.saved_activations), ""),
    ]
    rows += [("in host memory", gib(high.host), "offloaded, per process")] if high.host else []
    return _columns(rows)


def _section(title: str, rows: Sequence[str], style: Style) -> list[str]:
    return ["", style("strong", title), *(f"  {row}".rstrip() for row in rows)] if rows else []


def _facts(facts: Sequence[Fact], documents: Documents) -> list[str]:
    return _columns([(fact.name, candidates(fact.candidates), source(fact, documents)) for fact in facts], _WIDEST)


def source(fact: Fact, documents: Documents) -> str:
    """Where a fact comes from, in words."""
    key = f"{fact.key}, " if fact.key else ""
    via = f" ({fact.via})" if fact.via and fact.via not in {"literal", "config-file"} else ""
    reason = f": {fact.reason}" if fact.reason else ""
    reason += _decided(fact, documents)
    match fact.origin:
        case Origin.WRITTEN:
            at = where(fact.place, documents) if fact.place else "written"
            named = "".join(f", by {where(step, documents)}" for step in reversed(fact.through))
            return printable(f"{key}{at}{named}{via}{reason}")
        case Origin.DEFAULT:
            return printable(f"{key}default of {fact.library or 'the library'}{reason}")
        case _:
            at = f" ({where(fact.place, documents)})" if fact.place else ""
            return printable(f"{key}{fact.origin.value}{reason}{at}")


def _decided(fact: Fact, documents: Documents) -> str:
    """`, decided by train.py:12`: the settings on which it depends."""
    shown = dict.fromkeys(where(place, documents) for place in fact.decided if place != fact.place)
    return f", decided by {' and '.join(shown)}" if shown else ""


def _columns(rows: Sequence[tuple[str, ...]], widest: int = 60) -> list[str]:
    """Left-aligned columns, two spaces apart."""
    if not rows:
        return []
    wide = [min(max(map(len, column)), widest) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]

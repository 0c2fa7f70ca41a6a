"""The format for people: what is wrong, where, where the memory goes, and the smallest change that helps."""

from __future__ import annotations

from collections.abc import Sequence

from vramlint.estimate import Estimate
from vramlint.findings import Finding, Fix, JobReport, Report
from vramlint.report import breakdown, computation, excerpt
from vramlint.report.style import Style
from vramlint.report.view import View
from vramlint.report.words import gib, mark, ordered, printable, shown, span_of


def render(report: Report, view: View) -> str:
    """A block per finding, then a block per job that has a figure but no declared GPU."""
    style = Style(view.color)
    blocks = [block(finding, report, style, unsafe=view.unsafe) for finding in ordered(report.findings)]
    blocks += [needs(job, style) for job in report.jobs if job.gpu is None and job.high]
    return "".join(f"{text}\n\n" for text in blocks)


def block(finding: Finding, report: Report, style: Style, *, unsafe: bool = False) -> str:
    """One finding."""
    level = finding.severity.value
    said = style("strong", f"{finding.name}: {printable(finding.message)}")
    head = f"{style(level, f'{level}[{finding.code}]')} {mark(finding, unsafe=unsafe)}{said}"
    lines = [head, *excerpt.draw(finding, report.documents, style)]
    margin = " " * (excerpt.gutter(finding, report.documents) + 1)
    lines += _memory(finding, report.jobs, margin, style)
    lines += [_item(margin, "job", job, style) for job in shown(finding.jobs)]
    lines += [_item(margin, "note", note, style) for note in finding.notes]
    lines += [_item(margin, "help", text, style) for text in finding.help]
    if isinstance(finding.fix, Fix):
        lines += plan(finding.fix, margin, style)
    return "\n".join(lines)


def _item(margin: str, word: str, text: str, style: Style) -> str:
    """`= note: text`; further lines of the text stand under its first."""
    first, *rest = text.split("\n")
    indent = " " * (len(margin) + len(word) + 4)
    lines = [f"{margin}{style('frame', '=')} {style('strong', word)}: {printable(first)}"]
    return "\n".join([*lines, *(f"{indent}{printable(line)}".rstrip() for line in rest)])


def _memory(finding: Finding, jobs: Sequence[JobReport], margin: str, style: Style) -> list[str]:
    estimate = finding.estimate
    if estimate is None:
        return []
    job = next((job for job in jobs if job.high is estimate), None)
    gpu = (job.gpu, job.gpu_usable) if job and job.gpu and job.gpu_usable else None
    which = "" if finding.low is None or finding.low == estimate else "the most that the files leave possible, "
    lines = [_item(margin, "memory", f"{which}GiB of one GPU at the peak", style)]
    lines += [f"{margin}  {row}" for row in breakdown.table(estimate, style, gpu)]
    for word, text in _remarks(estimate):
        lines += [_item(margin, word, text, style)] if text else []
    return lines


def _remarks(estimate: Estimate) -> tuple[tuple[str, str], ...]:
    return (
        ("phases", breakdown.phases(estimate)),
        ("rank", breakdown.worst_rank(estimate)),
        ("note", breakdown.method(estimate)),
    )


def plan(fix: Fix, margin: str, style: Style) -> list[str]:
    """The fix: numbered steps with what each saves and costs, and the peak after all of them."""
    outcome = "fits" if fix.fits else "is the least that vramlint found, and still too much"
    together = "this change brings" if len(fix.steps) == 1 else "these changes together bring"
    lines = [_item(margin, "help", f"{together} the peak to {gib(fix.peak)}, which {outcome}", style)]
    wide = min(max((len(step.description) for step in fix.steps), default=0), 60)
    for index, step in enumerate(fix.steps, 1):
        saves = f"saves {gib(step.saves)}" if step.saves > 0 else "saves nothing alone"
        text = f"{index}. {printable(step.description):<{wide}}  {saves}"
        costs = [printable(step.cost)] if step.cost else []
        costs += [computation.slower(step.slowdown)] if step.slowdown else []
        lines.append("; ".join([f"{margin}  {style('good', text)}", *costs]))
    slowdowns = [step.slowdown for step in fix.steps if step.slowdown]
    assumed = "; ".join(dict.fromkeys(part for found in slowdowns for part in found.assumption.split("; ")))
    return [*lines, _item(margin, "note", f"step times assume: {printable(assumed)}", style)] if assumed else lines


def needs(job: JobReport, style: Style) -> str:
    """What a job without a declared GPU needs, and the smallest common GPUs that would do."""
    high, low = job.high, job.low or job.high
    if high is None or low is None:
        return ""
    title = f"{printable(job.name)}: needs {span_of(low.device_low, high.device_need)} per GPU"
    lines = [f"{style('info', 'memory')}: {style('strong', title)}"]
    lines += [f"   {row}" for row in breakdown.table(high, style)]
    for word, text in _remarks(high):
        lines += [_item("  ", word, text, style)] if text else []
    for name, size in job.contributions:
        lines.append(_item("  ", "note", f"{name.replace('_', ' ')} is open: {gib(size)} of the range", style))
    fits = ", ".join(map(printable, job.fits_on))
    advice = f"the smallest common GPUs that would do: {fits}" if fits else "no common GPU holds it alone"
    lines.append(_item("  ", "help", f"{advice}; declare yours with --gpu", style))
    return "\n".join(lines)

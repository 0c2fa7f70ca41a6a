"""`diff` as Markdown, for the comment of a pull request."""

from __future__ import annotations

from vramlint.comparison import Changed, Comparison, Side
from vramlint.report.diff import change, sentence, signed
from vramlint.report.view import View
from vramlint.report.words import count, gib, printable


def render(comparison: Comparison, view: View) -> str:
    """A sentence for a single change, a table of them, and how many runs are as they were."""
    lines = ["### GPU memory", ""]
    if not comparison.changed:
        lines += [f"No peak changed ({count(comparison.unchanged, 'run')} looked at)."]
        return "\n".join(lines) + "\n"
    if len(comparison.changed) == 1:
        one = comparison.changed[0]
        lines += [f"`{_cell(one.name)}`: {_cell(sentence(one))}.", ""]
    lines += ["| run | before | after | change | because |", "|---|---:|---:|---:|---|"]
    lines += map(_row, comparison.changed)
    if comparison.unchanged:
        lines += ["", f"{count(comparison.unchanged, 'run')} unchanged."]
    return "\n".join(lines) + "\n"


def _row(one: Changed) -> str:
    rise = "" if one.rise is None else signed(one.rise)
    mark = " ⚠️ no longer fits" if one.broke else ""
    causes = "<br>".join(_cell(f"{signed(cause.bytes)} {change(cause)}") for cause in one.causes)
    return f"| `{_cell(one.name)}` | {_figure(one.before)} | {_figure(one.after)}{mark} | {rise} | {causes} |"


def _figure(side: Side | None) -> str:
    if side is None:
        return "–"
    return "no figure" if side.need is None else gib(side.need)


def _cell(text: str) -> str:
    """Text that neither a table nor HTML takes for its own."""
    plain = printable(text).replace("|", "\\|").replace("`", "'")
    return plain.replace("<", "&lt;").replace(">", "&gt;")

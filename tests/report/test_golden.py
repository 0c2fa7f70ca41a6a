"""What each format prints for one hand-made report."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.report import samples
from vramlint.report import FORMATS, RuleInfo, View, explain, explain_json, render

RULES = (
    RuleInfo(
        "VRAM101", "exceeds-gpu-memory", "error", "the run needs more memory than the GPU has", "## Why\n\nIt ends."
    ),
    RuleInfo("VRAM803", "unknown-deepspeed-key", "warning", "a key that DeepSpeed doesn't know"),
)
VIEW = View(rules=RULES, version="0.1.0", root="/repository")
Golden = Callable[[str, str], None]


@pytest.mark.parametrize("form", FORMATS)
def test_format(form: str, golden: Golden) -> None:
    golden(f"report.{form}.txt", render(form, samples.report, VIEW))


def test_full_in_colour(golden: Golden) -> None:
    golden("report.full.ansi", render("full", samples.report, View(color=True)))


def test_explain(golden: Golden) -> None:
    golden("explain.txt", explain.render("train.py", samples.report, VIEW))


def test_explain_json(golden: Golden) -> None:
    golden("explain.json", explain_json.render("train.py", samples.report, VIEW))


def test_unknown_format_is_refused() -> None:
    with pytest.raises(KeyError):
        render("yaml", samples.report, VIEW)

"""Renderers: one module per format, each a pure function from a report to text."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import cast

from vramlint.findings import Report
from vramlint.report.view import RuleInfo, View

FORMATS = MappingProxyType(
    {
        "full": "source lines, memory breakdown and fix plan",
        "concise": "one line per finding",
        "json": "one versioned JSON object",
        "sarif": "SARIF 2.1.0 for code scanning",
        "github": "annotations of GitHub Actions, and one line per finding",
    }
)
"""Output formats with what each prints. The module of a format has its name and a `render(report, view)`."""

__all__ = ["FORMATS", "RuleInfo", "View", "render"]


def render(form: str, report: Report, view: View) -> str:
    """The report in one of `FORMATS`, ending in a line end unless it is empty.

    Raises:
        KeyError: no such format.
    """
    if form not in FORMATS:
        raise KeyError(form)
    module = import_module(f"vramlint.report.{form}")
    return cast("str", module.render(report, view))

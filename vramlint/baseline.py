"""Findings that a project lives with: told by their rule, their file and the text they point at, never by a line."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vramlint.findings import Finding, Report

VERSION = 1
"""Version of the file's form, `vramlint/schemas/baseline-1.json`."""


class BaselineError(ValueError):
    """The text is no baseline; the message says why."""


class Entry(NamedTuple):
    """Findings of one rule in one file that point at the same text."""

    rule: str
    """Its code."""
    path: str
    """From the baseline's folder, with forward slashes."""
    evidence: tuple[str, ...]
    """The lines that the finding's labels stand on, blanks at their ends left out, in order of the alphabet."""


class Baseline(Struct, frozen=True):
    """How many findings of each kind are known."""

    counts: Mapping[Entry, int]


class Kept(NamedTuple):
    """A report without what is known."""

    report: Report
    stale: tuple[Entry, ...]
    """Known findings that are gone, of files that were looked at and of rules that ran."""


def baseline_of(report: Report, home: str, root: str) -> Baseline:
    """All findings of a report.

    Args:
        report: of paths that are absolute, or relative to `root`.
        home: folder of the baseline, absolute.
        root: folder that the paths start from, absolute.
    """
    return Baseline(Counter(_entry(finding, report, home, root) for finding in report.findings))


def without(report: Report, baseline: Baseline, home: str, root: str, ran: Iterable[str]) -> Kept:
    """The report without known findings; as many of a kind as are known, the first ones.

    Args:
        report: what was found.
        baseline: what is known.
        home: folder of the baseline, absolute.
        root: folder that the report's paths start from, absolute.
        ran: codes of the rules that ran: known findings of others are not stale.
    """
    left = Counter(dict(baseline.counts))
    fresh: list[Finding] = []
    for finding in report.findings:
        entry = _entry(finding, report, home, root)
        if left[entry] > 0:
            left[entry] -= 1
        else:
            fresh.append(finding)
    known = len(report.findings) - len(fresh)
    seen, codes = {_relative(path, home, root) for path in report.documents}, frozenset(ran)
    stale = tuple(sorted(e for e, count in left.items() if count > 0 and e.path in seen and e.rule in codes))
    return Kept(replace(report, findings=tuple(fresh), known=report.known + known), stale)


def write(baseline: Baseline) -> str:
    """The text of a baseline's file, in a fixed order."""
    entries = [
        {"rule": entry.rule, "path": entry.path, "count": count, "evidence": list(entry.evidence)}
        for entry, count in sorted(baseline.counts.items(), key=lambda item: (item[0].path, item[0]))
        if count > 0
    ]
    return json.dumps({"version": VERSION, "findings": entries}, indent=2, ensure_ascii=False) + "\n"


def read(text: str) -> Baseline:
    """The baseline in a file's text.

    Raises:
        BaselineError: it is not of the form.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise BaselineError(f"is no baseline of version {VERSION}: `vramlint --write-baseline` makes one")
    findings = content.get("findings")
    if not isinstance(findings, list):
        raise BaselineError("has no list `findings`")
    counts: Counter[Entry] = Counter()
    for number, item in enumerate(findings):
        match item:
            case {"rule": str(rule), "path": str(path), "count": int(count), "evidence": [*lines]} if count > 0 and all(
                isinstance(line, str) for line in lines
            ):
                counts[Entry(rule, path, tuple(lines))] += count
            case _:
                raise BaselineError(f"findings[{number}] needs `rule`, `path`, `count` and `evidence`")
    return Baseline(counts)


def _entry(finding: Finding, report: Report, home: str, root: str) -> Entry:
    lines: set[str] = set()
    for label in finding.labels:
        document = report.documents.get(label.place.path)
        if document is not None:
            lines.add(document.line(label.place.span.line).strip())
    return Entry(finding.code, _relative(finding.place.path, home, root), tuple(sorted(lines)))


def _relative(path: str, home: str, root: str) -> str:
    path, home, root = (part.replace("\\", "/") for part in (path, home, root))
    return posixpath.relpath(posixpath.join(root, path), home)

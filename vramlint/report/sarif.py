"""SARIF 2.1.0, the form that code scanning services take (OASIS standard of 27 March 2020)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from urllib.parse import quote

from vramlint.findings import Change, Finding, Fix, Label, Report
from vramlint.report.spots import Documents, spot
from vramlint.report.view import RuleInfo, View
from vramlint.report.words import gib, ordered, shown
from vramlint.text import Edit, Place, Span

Json = dict[str, object]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(report: Report, view: View) -> str:
    """One run with all findings."""
    findings = ordered(report.findings)
    rules = _rules(findings, view)
    index = {rule.code: position for position, rule in enumerate(rules)}
    driver: Json = {
        "name": "vramlint",
        "semanticVersion": view.version,
        "informationUri": "https://github.com/vramlint/vramlint",
        "rules": [_rule(rule) for rule in rules],
    }
    seen: Counter[str] = Counter()
    run: Json = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The folder that vramlint ran in"}}},
        "results": [_result(finding, index[finding.code], report, view, seen) for finding in findings],
    }
    log: Json = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _rules(findings: Iterable[Finding], view: View) -> list[RuleInfo]:
    """The rules that ran, and a stub for a finding whose rule the view doesn't know."""
    known = {rule.code: rule for rule in view.rules}
    for finding in findings:
        stub = RuleInfo(finding.code, finding.name, finding.severity.value, finding.name)
        known.setdefault(finding.code, stub)
    return [known[code] for code in sorted(known)]


def _rule(rule: RuleInfo) -> Json:
    text = rule.help or rule.summary
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.summary},
        "help": {"text": text, "markdown": text},
        "defaultConfiguration": {"level": _LEVELS.get(rule.severity, "warning")},
        "properties": {"tags": list(rule.tags) or ["gpu-memory"], "problem.severity": _problem(rule.severity)},
    }


def _problem(severity: str) -> str:
    return "recommendation" if severity == "info" else severity


def _result(finding: Finding, index: int, report: Report, view: View, seen: Counter[str]) -> Json:
    text = "\n".join([finding.message, *shown(finding.jobs), *finding.notes, *finding.help, *_steps(finding)])
    result: Json = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity.value],
        "message": {"text": text},
        "locations": [_location(finding.place, report.documents, view.root)],
        "partialFingerprints": {"vramlintFinding/v1": _fingerprint(finding, report, view.root, seen)},
    }
    related = [_related(number, label, report.documents, view.root) for number, label in enumerate(_others(finding), 1)]
    if related:
        result["relatedLocations"] = related
    edits = [edit for step in finding.fix.steps for edit in step.edits] if finding.fix else []
    if finding.fix and all(step.edits for step in finding.fix.steps) and _in_text(edits, report.documents):
        result["fixes"] = [_fix(edits, finding.fix, view.root)]
    return result


def _steps(finding: Finding) -> list[str]:
    if not isinstance(finding.fix, Fix):
        return []
    return [f"- {step.description} (saves {gib(step.saves)})" for step in finding.fix.steps]


def _others(finding: Finding) -> list[Label]:
    return [label for label in finding.labels if not label.primary]


def _in_text(edits: list[Edit], documents: Documents) -> bool:
    """Whether there are edits, all of them in files whose text is what is read: a cell's is written escaped."""
    return bool(edits) and all(spot(edit.place, documents).cell is None for edit in edits)


def _related(number: int, label: Label, documents: Documents, root: str) -> Json:
    related: Json = {"id": number, **_location(label.place, documents, root)}
    if label.text:
        related["message"] = {"text": label.text}
    return related


def _location(place: Place, documents: Documents, root: str) -> Json:
    """Where it is in the file; in notebooks whole lines of the file, and the cell as a logical location."""
    at = spot(place, documents)
    region = _region(place.span) if at.cell is None else {"startLine": at.file_line, "endLine": at.file_end_line}
    location: Json = {"physicalLocation": {"artifactLocation": _artifact(at.path, root), "region": region}}
    if at.cell is not None:
        name = f"cell {at.cell}"
        full = f"{name}:{at.span.line}:{at.span.column}"
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": full}]
    return location


def _region(span: Span) -> Json:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }


def _artifact(path: str, root: str) -> Json:
    path = relative(path, root)
    if path.startswith("/"):
        return {"uri": f"file://{quote(path)}"}
    return {"uri": quote(path), "uriBaseId": "%SRCROOT%"}


def relative(path: str, root: str) -> str:
    """The path below `root`, with forward slashes; unchanged when it lies elsewhere."""
    path = path.replace("\\", "/")
    root = root.replace("\\", "/").rstrip("/")
    return path.removeprefix(f"{root}/").removeprefix("./") if root else path.removeprefix("./")


def _fingerprint(finding: Finding, report: Report, root: str, seen: Counter[str]) -> str:
    """Stable while the line's text stays: moving the line doesn't make a finding new."""
    document = report.documents.get(finding.place.path)
    line = document.line(finding.place.span.line).strip() if document else ""
    evidence = "\0".join([finding.code, relative(finding.place.path, root), line])
    seen[evidence] += 1
    digest = hashlib.sha256(f"{evidence}\0{seen[evidence]}".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:32]


def _described(fix: Change) -> str:
    what = ", ".join(step.description for step in fix.steps)
    text = f"Brings the peak to {gib(fix.peak)}" if isinstance(fix, Fix) else f"{what[:1].upper()}{what[1:]}"
    return text if fix.applicability == "safe" else f"{text} (unsafe)"


def _fix(edits: list[Edit], fix: Change, root: str) -> Json:
    by_file: dict[str, list[Edit]] = {}
    for edit in edits:
        by_file.setdefault(edit.place.path, []).append(edit)
    return {
        "description": {"text": _described(fix)},
        "artifactChanges": [
            {
                "artifactLocation": _artifact(path, root),
                "replacements": [
                    {"deletedRegion": _region(edit.place.span), "insertedContent": {"text": edit.replacement}}
                    for edit in group
                ],
            }
            for path, group in by_file.items()
        ],
    }

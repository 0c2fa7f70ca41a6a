"""`explain --format json`: facts and byte counts; its form is `vramlint/schemas/explain-1.json`."""

from __future__ import annotations

import json
from math import isfinite

from vramlint.facts import Candidate, Fact, FactValue, Recognised
from vramlint.findings import JobReport, Report
from vramlint.report import computation
from vramlint.report.json import Json, estimate, gpu, place
from vramlint.report.spots import Documents
from vramlint.report.view import View

VERSION = 1
"""Version of the form. New keys may come within a version; a key changes or goes only with a new one."""


def render(path: str, report: Report, view: View) -> str:
    """All jobs of one file."""
    content: Json = {
        "version": VERSION,
        "vramlint": view.version,
        "path": path,
        "jobs": [job(item, report.documents) for item in report.jobs],
        "problems": [
            {
                "code": finding.code,
                "name": finding.name,
                "severity": finding.severity.value,
                "message": finding.message,
                "location": place(finding.place, report.documents),
            }
            for finding in report.findings
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def job(item: JobReport, documents: Documents) -> Json:
    """One job."""
    return {
        "name": item.name,
        "path": item.path,
        "kind": item.kind,
        "vocabulary": recognised(item.recognised),
        "status": item.status,
        "reason": item.reason,
        "unresolved": list(item.unresolved),
        "gpu": gpu(item),
        "facts": [fact(known, documents) for known in item.facts],
        "versions": [
            {"library": library, "version": version, "source": source} for library, version, source in item.versions
        ],
        "estimate": {"low": estimate(item.low), "high": estimate(item.high)} if item.low and item.high else None,
        "computation": computation.in_json(item.cost),
        "contributions": [{"fact": name, "bytes": size} for name, size in item.contributions],
        "rules_of_thumb": [{"name": name, "bytes": size, "why": why} for name, size, why in item.thumb],
        "fits_on": list(item.fits_on),
    }


def recognised(item: Recognised | None) -> Json | None:
    """In which vocabulary a data file is written; null for scripts."""
    return None if item is None else {"name": item.kind, "confidence": item.confidence, "why": item.why}


def fact(item: Fact, documents: Documents) -> Json:
    """One fact. `value` is null when it is unknown or several values are possible."""
    return {
        "name": item.name,
        "value": _plain(item.value),
        "candidates": [_candidate(option, documents) for option in item.candidates],
        "origin": item.origin.value,
        "key": item.key,
        "via": item.via,
        "library": item.library,
        "reason": item.reason,
        "location": place(item.place, documents),
        "through": [place(step, documents) for step in item.through],
        "decided_by": [place(step, documents) for step in item.decided],
        "also": [place(step, documents) for step in item.also],
    }


def _candidate(option: Candidate, documents: Documents) -> Json:
    return {"value": _plain(option.value), "condition": option.condition, "location": place(option.place, documents)}


def _plain(value: FactValue) -> object:
    """The value in JSON's terms, which has no infinity and no NaN."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value

"""One JSON object; its form is `vramlint/schemas/report-1.json`.

Rows and columns are 1-based and count Unicode code points; ends are exclusive; sizes are bytes. In a notebook `cell`
says which cell, text cells counted too, and rows count from its start; elsewhere it is null.
"""

from __future__ import annotations

import json

from vramlint.estimate import Amount, Estimate, Node, PhasePeak
from vramlint.findings import Change, Finding, Fix, JobReport, Report
from vramlint.report import computation
from vramlint.report.spots import Documents, spot
from vramlint.report.summary import counts
from vramlint.report.view import View
from vramlint.report.words import levels, ordered
from vramlint.text import Edit, Place

VERSION = 1
"""Version of the form. New keys may come within a version; a key changes or goes only with a new one."""

Json = dict[str, object]


def render(report: Report, view: View) -> str:
    """The whole report."""
    content: Json = {
        "version": VERSION,
        "vramlint": view.version,
        "findings": [finding(item, report.documents) for item in ordered(report.findings)],
        "jobs": [_job(job) for job in report.jobs],
        "summary": {
            **{level.value: amount for level, amount in levels(report.findings).items()},
            **{f"jobs_{status}": amount for status, amount in counts(report).items()},
            "files_checked": report.files_checked,
            "files_skipped": report.files_skipped,
            "suppressed": report.suppressed,
            "known": report.known,
            "fixable": sum(item.fixable() for item in report.findings),
            "fixable_unsafely": sum(item.fixable(unsafe=True) for item in report.findings),
            "fixed": report.fixed,
        },
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def finding(item: Finding, documents: Documents) -> Json:
    """One finding."""
    return {
        "code": item.code,
        "name": item.name,
        "severity": item.severity.value,
        "message": item.message,
        **_locations(item.place, documents),
        "labels": [
            {
                **_locations(label.place, documents),
                "text": label.text,
                "primary": label.primary,
            }
            for label in item.labels
        ],
        "jobs": list(item.jobs),
        "notes": list(item.notes),
        "help": list(item.help),
        "fix": fix(item.fix, documents) if item.fix else None,
        "estimate": estimate(item.estimate) if item.estimate else None,
        "low_estimate": estimate(item.low) if item.low else None,
    }


def fix(item: Change, documents: Documents) -> Json:
    """A fix; of one that is no plan for memory the peak is null."""
    return {
        "peak_bytes": item.peak if isinstance(item, Fix) else None,
        "fits": item.fits if isinstance(item, Fix) else None,
        "applicability": item.applicability,
        "safe_steps_help": bool(item.alone),
        "steps": [
            {
                "description": step.description,
                "saves_bytes": step.saves,
                "cost": step.cost,
                "step_time": computation.slowdown_in_json(step.slowdown),
                "applicability": "safe" if step.sure else "unsafe",
                "edits": [_edit(edit, documents) for edit in step.edits],
            }
            for step in item.steps
        ],
    }


def _edit(edit: Edit, documents: Documents) -> Json:
    return {**_locations(edit.place, documents), "content": edit.replacement}


def _locations(place: Place, documents: Documents) -> Json:
    path, cell, span, *_ = spot(place, documents)
    return {
        "filename": path,
        "cell": cell,
        "location": {"row": span.line, "column": span.column},
        "end_location": {"row": span.end_line, "column": span.end_column},
    }


def estimate(item: Estimate) -> Json:
    """An estimate in bytes of one GPU."""
    return {
        "method": item.method,
        "device_low_bytes": item.device_low,
        "device_need_bytes": item.device_need,
        "device_high_bytes": item.device_high,
        "allocated_bytes": item.allocated,
        "reserved_bytes": item.reserved,
        "fragmentation_bytes": item.fragmentation,
        "outside_bytes": item.outside,
        "outside_parts": _amounts(item.outside_parts),
        "host_bytes": item.host,
        "node": _node(item.node),
        "parameters_bytes": item.parameters,
        "gradients_bytes": item.gradients,
        "optimizer_states_bytes": item.optimizer_states,
        "saved_activations_bytes": item.saved_activations,
        "trainable_parameters": item.trainable_parameters,
        "total_parameters": item.total_parameters,
        "stand_in": item.stand_in,
        "peak_phase": item.peak_phase,
        "phases": _phases(item.phases),
        "first_step": _phases(item.first_step),
        "components": _amounts(item.components),
        "activations": _amounts(item.activations),
        "tensors": _amounts(item.tensors),
        "ranks": [
            {
                "name": peak.name,
                "ranks": peak.ranks,
                "allocated_bytes": peak.allocated,
                "device_bytes": peak.device,
                "holds": peak.holds,
            }
            for peak in item.ranks
        ],
        "notes": list(item.notes),
    }


def _node(item: Node | None) -> Json | None:
    """Host memory and NVMe of one machine; null of inference."""
    if item is None:
        return None
    return {
        "processes": item.processes,
        "phases": [
            {"phase": phase.phase, "bytes": phase.bytes, "components": _amounts(phase.components)}
            for phase in item.phases
        ],
        "load_copies": item.copies,
        "pinned_bytes": item.pinned,
        "rounding_bytes": item.rounding,
        "disk_bytes": item.disk,
    }


def _phases(peaks: tuple[PhasePeak, ...]) -> list[Json]:
    return [{"phase": peak.phase, "allocated_bytes": peak.allocated, "reserved_bytes": peak.reserved} for peak in peaks]


def _amounts(amounts: tuple[Amount, ...]) -> list[Json]:
    return [{"name": amount.name, "bytes": amount.bytes} for amount in amounts]


def _job(job: JobReport) -> Json:
    return {
        "name": job.name,
        "path": job.path,
        "kind": job.kind,
        "status": job.status,
        "reason": job.reason,
        "unresolved": list(job.unresolved),
        "gpu": gpu(job),
        "low_bytes": job.low.device_low if job.low else None,
        "high_bytes": job.high.device_need if job.high else None,
        "fits_on": list(job.fits_on),
    }


def gpu(job: JobReport) -> Json | None:
    """The declared GPU."""
    return {"name": job.gpu, "usable_bytes": job.gpu_usable, "origin": job.gpu_origin} if job.gpu else None


def place(item: Place | None, documents: Documents) -> Json | None:
    """A place in one object. `file_line` is the line of the file itself, which in a notebook is one of its JSON."""
    if item is None:
        return None
    path, cell, span, file_line, file_end_line = spot(item, documents)
    return {
        "path": path,
        "cell": cell,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
        "file_line": file_line,
        "file_end_line": file_end_line,
    }

"""`fit --format json`; its form is `vramlint/schemas/fit-1.json`."""

from __future__ import annotations

import json

from vramlint.estimate import Slowdown
from vramlint.plans import FitReport, Fitting, Largest, Plan, WhyNot
from vramlint.report.json import Json, place
from vramlint.report.spots import Documents
from vramlint.report.view import View

VERSION = 1
"""Version of the form. New keys may come within a version; a key changes or goes only with a new one."""


def render(path: str, report: FitReport, view: View) -> str:
    """All jobs of one file."""
    content: Json = {
        "version": VERSION,
        "vramlint": view.version,
        "path": path,
        "jobs": [_job(job, report.documents) for job in report.jobs],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _job(job: Fitting, documents: Documents) -> Json:
    return {
        "name": job.name,
        "path": job.path,
        "status": job.status,
        "reason": job.reason,
        "gpu": {"name": job.gpu, "usable_bytes": job.usable} if job.usable else None,
        "limit_bytes": job.limit,
        "need_bytes": job.need,
        "plans": [_plan(plan, documents) for plan in job.plans],
        "nearest": _plan(job.nearest, documents) if job.nearest is not None else None,
        "larger_gpus": list(job.larger_gpus),
        "more_gpus": job.more_gpus,
        "more_gpus_changed": job.more_gpus_changed,
        "allowances": list(job.allowances),
        "allowed_gpus": job.allowed_gpus,
        "notes": list(job.notes),
        "largest": _largest(job.largest, documents) if job.largest is not None else None,
        "why_not": _why_not(job.why_not) if job.why_not is not None else None,
        "offers": job.offers,
        "refused": [
            {"gpu": refused.gpu, "need_bytes": refused.need, "limit_bytes": refused.limit, "reason": refused.reason}
            for refused in job.refused
        ],
        "simulations": job.simulations,
    }


def _plan(plan: Plan, documents: Documents) -> Json:
    return {
        "gpu": plan.gpu or None,
        "gpus": plan.gpus,
        "tokens_per_second": _between(plan.tokens_per_second),
        "price_of_million_tokens": _between(plan.price),
        "peak_bytes": plan.peak,
        "step_time": _times(plan.slowdown),
        "alters": plan.alters,
        "complete": plan.complete,
        "ram_bytes": plan.ram,
        "peak_of_edited_files_bytes": plan.reread,
        "changes": [
            {
                "name": change.name,
                "description": change.description,
                "result": change.result,
                "cost": change.cost,
                "by_hand": change.by_hand,
                "package": change.package,
            }
            for change in plan.changes
        ],
        "edits": [{"location": place(edit.place, documents), "replacement": edit.replacement} for edit in plan.edits],
    }


def _between(bounds: tuple[float, float] | None) -> Json | None:
    """Two bounds, in six digits."""
    return None if bounds is None else {"least": float(f"{bounds[0]:.6g}"), "most": float(f"{bounds[1]:.6g}")}


def _times(found: Slowdown | None) -> Json | None:
    if found is None:
        return None
    return {
        "least": round(found.least, 4),
        "most": round(found.most, 4),
        "assumption": found.assumption,
        "left_out": found.left_out,
    }


def _largest(found: Largest, documents: Documents) -> Json:
    return {
        "setting": found.setting,
        "now": found.now,
        "value": found.value,
        "bound": found.bound,
        "plan": _plan(found.plan, documents) if found.plan is not None else None,
    }


def _why_not(found: WhyNot) -> Json:
    return {
        "name": found.name,
        "words": found.words,
        "reason": found.reason,
        "before_bytes": found.before,
        "after_bytes": found.after,
        "step_time": _times(found.slowdown),
        "result": found.result,
    }

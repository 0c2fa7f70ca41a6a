"""`diff --format json`; its form is `vramlint/schemas/diff-1.json`."""

from __future__ import annotations

import json

from vramlint.comparison import Changed, Comparison, Side
from vramlint.report.json import Json
from vramlint.report.view import View

VERSION = 1
"""Version of the form. New keys may come within a version; a key changes or goes only with a new one."""


def render(comparison: Comparison, view: View) -> str:
    """All changes as one object."""
    content: Json = {
        "version": VERSION,
        "vramlint": view.version,
        "before": comparison.before,
        "after": comparison.after,
        "changed": list(map(_changed, comparison.changed)),
        "unchanged": comparison.unchanged,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _changed(one: Changed) -> Json:
    return {
        "name": one.name,
        "path": one.path,
        "before": _side(one.before),
        "after": _side(one.after),
        "rise_bytes": one.rise,
        "no_longer_fits": one.broke,
        "causes": [
            {"name": cause.name, "before": cause.before, "after": cause.after, "rise_bytes": cause.bytes}
            for cause in one.causes
        ],
    }


def _side(side: Side | None) -> Json | None:
    if side is None:
        return None
    gpu: Json | None = {"name": side.gpu, "usable_bytes": side.usable} if side.usable else None
    return {"status": side.status, "reason": side.reason, "need_bytes": side.need, "gpu": gpu, "fits": side.fits}

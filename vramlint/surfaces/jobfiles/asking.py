"""Another GPU in a job file's own words: `A100:8`, `gpu="H100"`, `--gres=gpu:a100:4`, a label of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.catalog.instances import gpus_of, spelling_of
from vramlint.facts import Fact, Origin
from vramlint.patterns import lazy
from vramlint.surfaces.jobfiles.hardware import VIA
from vramlint.text import Document, Edit, Place

Said = tuple[str, tuple[Edit, ...]]

_VOCABULARIES: Mapping[str, str] = MappingProxyType(
    {
        "accelerators": "sky",
        "gpu": "modal",
        "--gres": "slurm",
        "--gpus": "slurm",
        "--gpus-per-node": "slurm",
        "-G": "slurm",
        "nvidia.com/gpu.product": "label",
        "cloud.google.com/gke-accelerator": "gcp",
    }
)
"""Keys that ask for a GPU by its name, and in whose words."""
_COUNTING = frozenset(("sky", "modal", "slurm"))
"""Vocabularies that say how many behind the name."""
_WORD = lazy(r"(?P<name>[A-Za-z][\w.-]*\w|[A-Za-z])(?P<choice>[!+]?)(?::(?P<count>\d+))?")


def asks(fact: Fact | None) -> bool:
    """Whether a job file names the GPU that it wants."""
    return fact is not None and fact.origin is Origin.WRITTEN and fact.via == VIA


def write_request(
    fact: Fact, gpu: str, count: int | None, documents: Mapping[str, Document], now: int | None = None
) -> Said | None:
    """Another GPU, and how many of one machine; no edits where it is asked for; None where the file cannot say it.

    Args:
        fact: `gpu`, as the job file states it.
        gpu: the catalog's id.
        count: of one machine; None: as many as now.
        documents: the files by path.
        now: GPUs of one machine, as far as they are known.
    """
    place, vocabulary = fact.place, _VOCABULARIES.get(fact.key)
    document = documents.get(place.path) if place else None
    spelling = spelling_of(gpu, vocabulary) if vocabulary else None
    if not asks(fact) or place is None or document is None or vocabulary is None or spelling is None:
        return None
    meant = {str(candidate.value) for candidate in fact.candidates}
    if vocabulary not in _COUNTING and count == now:
        count = None
    start = document.offset(place.span.line, place.span.column)
    for match in _WORD.finditer(document.slice(place.span)):
        if {*gpus_of(match["name"], "" if vocabulary == "slurm" else vocabulary)} != meant:
            continue
        name = _in_case(spelling, match["name"]) if vocabulary == "slurm" else spelling
        if count is not None and vocabulary not in _COUNTING:
            return None  # the number stands elsewhere
        number = match["count"] if count is None else str(count)
        written = name if number is None or (number == "1" and match["count"] is None) else f"{name}:{number}"
        there = Place(place.path, document.span(start + match.start(), start + match.end()))
        edits = () if written == match[0] else (Edit(there, written),)
        return f"{fact.key}: {written}", edits
    return None


def _in_case(spelling: str, like: str) -> str:
    return spelling.upper() if like.isupper() else spelling

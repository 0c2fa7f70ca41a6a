"""Figures of device memory in the comments at the head of a script: `# 8 * 80GiB`, `# 10GB`, `# 2 * 70GiB 0.61s/it`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from vramlint.catalog.gpu_rows import all_gpus
from vramlint.facts import Candidate, Fact, Origin
from vramlint.patterns import lazy
from vramlint.text import Document, Place, Span

DECLARED, MEASURED = "declared_memory", "measured_memory"

_FIGURE = lazy(
    r"#\s*(?:[\w ()/.-]{1,40}:\s*)?(?:\d+\s*[*x×]\s*)?(?P<size>\d+(?:\.\d+)?)\s*Gi?B"
    r"(?:\s*[*x×]\s*\d+)?(?P<speed>.*s/it)?",
    re.IGNORECASE,
)
"""A figure that begins a comment, perhaps behind a name and a colon, with the number of devices on either side."""
_HEAD = 10
"""Lines in which a script says what it takes."""


def memory_facts(document: Document) -> Iterator[Fact]:
    """The first figure of a script's head: of the device, where data centers have such, else what was measured."""
    for number, text in enumerate(document.text.splitlines()[:_HEAD], start=1):
        if text and not text.startswith("#"):
            return
        match = _FIGURE.match(text)
        if match is None:
            continue
        size = float(match["size"])
        name = DECLARED if size in _sizes() and not match["speed"] else MEASURED
        value = int(size) if size.is_integer() else size
        place = Place(document.path, Span(number, match.start("size") + 1, number, match.end("size") + 1))
        yield Fact(name, (Candidate(value, place),), Origin.WRITTEN, "comment", "comment")
        return


@cache
def _sizes() -> frozenset[float]:
    """Memory of the devices of data centers, as they are sold, GB."""
    return frozenset([float(row.marketed_gb) for row in all_gpus() if row.kind == "datacenter"])

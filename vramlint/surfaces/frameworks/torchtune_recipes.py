"""A recipe of torchtune by itself: what its code does with any configuration (torchtune 0.7 config/_parse.py)."""

from __future__ import annotations

import re

from vramlint.facts import Candidate, Fact, Origin, Sheet
from vramlint.patterns import lazy
from vramlint.surfaces.frameworks.reading import read_config
from vramlint.surfaces.frameworks.torchtune import FRAMEWORK
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.surfaces.launch.options import nested
from vramlint.text import Document
from vramlint.values import Scalar

KIND = "torchtune-recipe"
PARSED = lazy(r"^@(?:torchtune\.)?config\.parse\b", re.MULTILINE)
"""The decorator of the function that gets the configuration."""
_OF_CODE = (
    "objective",
    "parallelism",
    "world_size",
    "fsdp",
    "fsdp_version",
    "loop",
    "use_cache",
    "checkpointing_reentrant",
)
"""What the recipe decides, whatever its configuration says."""


def recipe_sheet(document: Document) -> Sheet | None:
    """The facts of a recipe's code; None for a file that is none."""
    if "torchtune" not in document.text or PARSED.search(document.text) is None:
        return None
    program = nested(PROGRAM, None, Scalar(document.path, None, "cli"))
    found = {fact.name: fact for fact in read_config(FRAMEWORK, document.path, program).facts}
    kind = Fact(
        "run_kind", (Candidate("library"),), Origin.DERIVED, via="code", reason="the command line names its file"
    )
    kept = [found[name] for name in _OF_CODE if name in found and found[name].origin is not Origin.ASSUMED]
    return Sheet(document.path, KIND, (kind, *kept))

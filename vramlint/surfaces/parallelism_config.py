"""Accelerate's `ParallelismConfig`: in its configuration, and as the object that a program makes.

accelerate 1.15 parallelism_config.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.accelerate_words import whole_word
from vramlint.surfaces.draft import Arguments, Drawn, draw
from vramlint.surfaces.lineage import last
from vramlint.values import Call, Value

DEGREES = (
    ("tensor_parallel", "tp_size"),
    ("context_parallel", "cp_size", "sp_size"),
    ("data_parallel_shard", "dp_shard_size"),
    ("data_parallel_replicate", "dp_replicate_size"),
)
"""Facts, and the sizes that say them."""
_SHARES = ("tensor_parallel", "context_parallel")
_FORMS = {"cp_size": ("ring", "torch's context_parallel"), "sp_size": ("ulysses", "DeepSpeed's Ulysses")}
"""How the ranks of a size share sequences; each has one backend."""


def degrees(find: Callable[[str], Value | None], key: str) -> Iterator[Drawn]:
    """The facts of a configuration, and what divides the model where anything does.

    Args:
        find: the value of a size.
        key: stands before each size in the facts.
    """
    for fact, *sizes in DEGREES:
        said = [
            drawn
            for size in sizes
            if (value := find(size)) is not None
            and isinstance(drawn := draw(fact, value, whole_word, f"{key}{size}"), Fact)
        ]
        chosen = next((drawn for drawn in said if drawn.value != 1), said[0] if said else None)
        yield chosen
        form = next((_FORMS[size] for size in _FORMS if chosen is not None and chosen.key.endswith(size)), None)
        if chosen is not None and form is not None and chosen.value != 1:
            candidate = Candidate(form[0], chosen.place)
            reason = f"{form[1]} shares the sequences"
            yield Fact("sequence_sharing", (candidate,), Origin.DERIVED, chosen.key, chosen.via, reason=reason)
        if chosen is not None and fact in _SHARES and chosen.value != 1:
            candidate = Candidate("accelerate", chosen.place)
            reason = "Accelerate's device mesh divides more than the data"
            yield Fact("divided_by", (candidate,), Origin.DERIVED, chosen.key, chosen.via, reason=reason)


def made(value: Value | None) -> Iterator[Drawn]:
    """The facts of `parallelism_config=ParallelismConfig(…)`."""
    if isinstance(value, Call) and last(value.callee) == "ParallelismConfig":
        yield from degrees(Arguments.of(value).value, "parallelism_config.")

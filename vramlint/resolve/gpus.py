"""What a program leaves to the GPU that it finds, once the GPU is declared."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from vramlint.facts import Fact, Origin
from vramlint.job import Gpu
from vramlint.surfaces.hardware import COMPUTES_IN_BFLOAT16


def by_gpu(facts: Mapping[str, Fact], gpu: Gpu | None) -> dict[str, Fact]:
    """The facts, those that depend on the GPU decided where it is known.

    Args:
        facts: by name.
        gpu: the declared one.
    """
    if gpu is None:
        return dict(facts)
    return {name: _decided(fact, gpu) for name, fact in facts.items()}


def _decided(fact: Fact, gpu: Gpu) -> Fact:
    ruled_out = f"not {COMPUTES_IN_BFLOAT16}" if gpu.bf16 else COMPUTES_IN_BFLOAT16
    kept = [item for item in fact.candidates if item.condition != ruled_out]
    if not kept or len(kept) == len(fact.candidates):
        return fact
    can = "computes" if gpu.bf16 else "does not compute"
    candidates = tuple([replace(item, condition="") for item in kept])
    return replace(
        fact, candidates=candidates, origin=Origin.DERIVED, reason=f"{fact.reason}; {gpu.name} {can} in bfloat16"
    )

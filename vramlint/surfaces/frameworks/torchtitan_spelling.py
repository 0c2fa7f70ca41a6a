"""Changes in torchtitan's words, said by other keys than those that are read (torchtitan 0.2 train.py)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Beside, Held
from vramlint.values import Plain, Scalar, Table

_WITHIN = ("tensor_parallel", "pipeline_parallel", "context_parallel")
"""Degrees whose ranks see the same rows."""


def spelled_accumulation(value: FactValue, beside: Beside) -> Mapping[str, Held] | None:
    """`global_batch_size`, which with the batch of each rank says how often gradients are added up (trainer.py).

    Where it is written it stays. Releases before 0.1, with `batch_size`, have none.
    """
    training = beside.table.get("training")
    if not isinstance(training, Table) or training.get("batch_size") is not None:
        return None
    if training.get("gradient_accumulation_steps") is not None:
        return {"training.gradient_accumulation_steps": value} if isinstance(value, int) else None
    total, rows = training.get("global_batch_size"), beside.changes.get("micro_batch_size")
    if isinstance(total, Scalar) and isinstance(total.value, int) and total.value > 0:
        return {}
    world = _whole(beside, "world_size")
    ranks = prod(_whole(beside, name) or 1 for name in _WITHIN)
    if not isinstance(value, int) or not isinstance(rows, int) or world is None or world % ranks:
        return None
    return {"training.global_batch_size": value * rows * (world // ranks)}


def _whole(beside: Beside, name: str) -> int | None:
    fact = beside.facts.get(name)
    return fact.value if fact is not None and isinstance(fact.value, int) else None


def spelled_checkpointing(value: FactValue) -> Mapping[str, Plain] | None:
    """Every layer is recomputed."""
    return {"activation_checkpoint.mode": "full"} if value is True else None

"""Conditions that the expression language cannot say. A rule names one as `predicate = "…"`.

A predicate takes the scope and gives the message's extra words, or None when it does not hold or cannot be known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.engine.names import Scope

Predicate = Callable[[Scope], str | None]


def batch_product_mismatch(scope: Scope) -> str | None:
    """A written global batch size that is not micro batch size x accumulation x world size.

    With an unknown world size: one that is no multiple of the other two. DeepSpeed refuses such a configuration:
    `deepspeed.runtime.config.DeepSpeedConfig._batch_assertion` (0.19.8). GPUs that share a sequence, the matrices or
    the layers count once.
    """
    if scope.lookup("origin.global_batch_size") != "written":
        return None
    total, micro, accumulation = (scope.lookup(f"facts.{name}") for name in _BATCH)
    if not (isinstance(total, int) and isinstance(micro, int) and isinstance(accumulation, int)):
        return None
    if not _is_deepspeeds_own(scope):
        return None  # a hand-written loop has loaders of its own sizes, which DeepSpeed does not look at
    world = _data_parallel(scope)
    product = micro * accumulation
    if world is not None:
        fits, said = product * world == total, f"{micro} × {accumulation} × {world} = {product * world}, not {total}"
    else:
        fits, said = product > 0 and total % product == 0, f"{total} is no multiple of {micro} × {accumulation}"
    return None if fits else said


def _data_parallel(scope: Scope) -> int | None:
    """GPUs that each have batches of their own, None where nobody says how many there are."""
    world = scope.lookup("facts.world_size")
    declared = scope.run is not None and scope.lookup("reason.world_size") == "declared"
    if not isinstance(world, int) or (scope.lookup("origin.world_size") == "assumed" and not declared):
        return None
    for name in ("context_parallel", "tensor_parallel", "pipeline_parallel"):
        shared = scope.lookup(f"facts.{name}")
        if isinstance(shared, int) and shared > 1:
            if world % shared:
                return None
            world //= shared
    return world


def _is_deepspeeds_own(scope: Scope) -> bool:
    """Whether the micro batch size is DeepSpeed's: written for it, or given to it by a Trainer or Accelerate."""
    run = scope.run
    fact = run.get("micro_batch_size") if run else None
    said = fact is not None and fact.key == "train_micro_batch_size_per_gpu"
    return said or (run is not None and run.kind == "data") or scope.lookup("facts.loop") in ("trainer", "accelerate")


_BATCH = ("global_batch_size", "micro_batch_size", "gradient_accumulation_steps")


PREDICATES: Mapping[str, Predicate] = MappingProxyType({"batch-product-mismatch": batch_product_mismatch})
"""All predicates by the name that rules use."""

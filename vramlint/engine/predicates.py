"""Conditions that the expression language cannot say. A rule names one as `predicate = "…"`.

A predicate takes the scope and gives the message's extra words, or None when it does not hold or cannot be known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.engine.expression import UNKNOWN
from vramlint.engine.names import Scope

Predicate = Callable[[Scope], str | None]


def batch_product_mismatch(scope: Scope) -> str | None:
    """A written global batch size that is not micro batch size x accumulation x world size.

    With an unknown world size: one that is no multiple of the other two. DeepSpeed refuses such a configuration:
    `deepspeed.runtime.config.DeepSpeedConfig._batch_assertion` (0.19.8).
    """
    if scope.lookup("origin.global_batch_size") != "written":
        return None
    total, micro, accumulation = (scope.lookup(f"facts.{name}") for name in _BATCH)
    if not (isinstance(total, int) and isinstance(micro, int) and isinstance(accumulation, int)):
        return None
    world = scope.lookup("facts.world_size") if scope.lookup("origin.world_size") != "assumed" else UNKNOWN
    product = micro * accumulation
    if isinstance(world, int):
        fits, said = product * world == total, f"{micro} × {accumulation} × {world} = {product * world}, not {total}"
    else:
        fits, said = product > 0 and total % product == 0, f"{total} is no multiple of {micro} × {accumulation}"
    return None if fits else said


_BATCH = ("global_batch_size", "micro_batch_size", "gradient_accumulation_steps")


PREDICATES: Mapping[str, Predicate] = MappingProxyType({"batch-product-mismatch": batch_product_mismatch})
"""All predicates by the name that rules use."""

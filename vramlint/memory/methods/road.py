"""RoAd: pairs of outputs are turned and scaled."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.vectors import TurnedPairs
from vramlint.memory.refusal import NotFollowedError

SHARES = {"road_1": 0.5, "road_2": 1.0, "road_4": 2.0}
"""Angles and scales per output, by variant."""
VARIANT = "road_1"
"""RoadConfig.variant (peft 0.20)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Angles and scales.

    Raises:
        NotFollowedError: an unknown variant.
    """
    share = SHARES.get(str(adapter.options.get("variant", VARIANT)))
    if share is None:
        raise NotFollowedError(f"the variant of RoAd on {name} with {inputs} inputs")
    size = int(outputs * share)
    angles = build.trained(f"{name}.road_theta", (size,))
    return TurnedPairs(angles, build.trained(f"{name}.road_alpha", (size,)))

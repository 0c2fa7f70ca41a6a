"""LoRA, and with magnitudes DoRA."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.low_rank import REUSES_RESULT_FROM, Dora
from vramlint.memory.refusal import NotFollowedError


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two factors beside the layer."""
    if adapter.variants:
        raise NotFollowedError(f"LoRA with {', '.join(adapter.variants)}")
    low_rank = build.low_rank(name, inputs, outputs)
    if not adapter.dora:
        return low_rank
    magnitude = build.trained(f"{name}.lora_magnitude_vector.weight", (outputs,), kept=True)
    return Dora(low_rank, magnitude, build.peft >= REUSES_RESULT_FROM)

"""Uni-LoRA: factors drawn from one vector."""

from __future__ import annotations

from vramlint.job import DTYPE_BYTES, Adapter
from vramlint.memory import adapters
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.shared_bases import DrawnFactors

LENGTH = 256
"""UniLoraConfig.theta_d_length (peft 0.20)."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """64-bit indices, and scales in the dtype of the weights, for every entry of both factors."""
    rank = adapters.rank_of(adapter, name)
    entries = rank * (inputs + outputs)
    build.buffer(8 * entries)
    build.buffer(DTYPE_BYTES[build.dtype] * entries)
    return DrawnFactors(build.shared(f"{name}.unilora_theta_d", (option(adapter, "theta_d_length", LENGTH),)), rank, 0)

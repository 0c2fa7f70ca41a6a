"""AdaLoRA: factors around singular values."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.singular import Singular


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Three factors, and a rank that the run changes."""
    rank = adapter.r
    first = build.trained(f"{name}.lora_A", (rank, inputs))
    second = build.trained(f"{name}.lora_B", (outputs, rank))
    values = build.trained(f"{name}.lora_E", (rank, 1))
    build.penalise(first, second)
    return Singular(first, second, values, build.trained(f"{name}.ranknum", (1,)), adapter.dropout)

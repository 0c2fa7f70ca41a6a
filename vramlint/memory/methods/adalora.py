"""AdaLoRA: factors around singular values."""

from __future__ import annotations

from vramlint.job import DTYPE_BYTES, Adapter
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.singular import Singular
from vramlint.memory.tensor import Tensor

RANK_TRAINS_FROM = (0, 21)
"""Since then what moving the rank to the device made trainable stays so (peft tuners/tuners_utils.py,
_mark_only_adapters_as_trainable); before, what had another name than `lora_…` was frozen."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Three factors, and a rank that the run changes."""
    rank = adapter.r
    first = build.trained(f"{name}.lora_A", (rank, inputs))
    second = build.trained(f"{name}.lora_B", (outputs, rank))
    values = build.trained(f"{name}.lora_E", (rank, 1))
    build.penalise(first, second)
    if build.peft >= RANK_TRAINS_FROM:
        return Singular(first, second, values, build.trained(f"{name}.ranknum", (1,)), adapter.dropout)
    build.buffer(DTYPE_BYTES[build.dtype])
    return Singular(first, second, values, Tensor((1,), build.dtype, None), adapter.dropout)

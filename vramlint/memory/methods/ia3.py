"""IA³: vectors that scale."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.vectors import Scaled


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """A vector over the inputs of feed-forward layers, over the outputs of others."""
    scales_input = adapters.scales_inputs(adapter, build.model_type, name)
    shape = (1, inputs) if scales_input else (outputs, 1)
    return Scaled(build.trained(f"{name}.ia3_l", shape), scales_input)

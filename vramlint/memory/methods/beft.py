"""BEFT: a bias."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.ops.vectors import Offset


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """One number for every output."""
    return Offset(build.trained(f"{name}.beft_bias", (outputs, 1)))

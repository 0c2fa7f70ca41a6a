"""GLoRA: a weight scaled and moved by what each path gives."""

from __future__ import annotations

from vramlint.job import DTYPE_BYTES, Adapter
from vramlint.memory import adapters
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.changed_weights import Paths
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.refusal import NotFollowedError

FORMS = ("lora", "vector")


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two paths for the weight; the paths of biases are zeros in a layer without one.

    Raises:
        NotFollowedError: the paths are others.
    """
    form = adapter.options.get("config_A_B", "lora")
    if form not in FORMS:
        raise NotFollowedError(f"the form of GLoRA on {name}")
    for size in (inputs, outputs, outputs):
        build.buffer(DTYPE_BYTES["float32"] * size)
    rank = adapters.rank_of(adapter, name)
    shapes = {"X": (outputs, 1)} if form == "vector" else {"Xd": (outputs, rank), "Xu": (rank, inputs)}
    first, second = (
        tuple([build.trained(f"{name}.glora_{path}.{end}", shape) for end, shape in shapes.items()]) for path in "AB"
    )
    return Paths(first, second)

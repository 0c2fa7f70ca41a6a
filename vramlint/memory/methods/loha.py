"""LoHa: the product, element by element, of two low-rank matrices."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.dense_delta import DenseDelta, Hadamard
from vramlint.memory.ops.linear import Adapter as Wrapper


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Four factors."""
    rank = adapters.rank_of(adapter, name)
    first, second = (
        (
            build.trained(f"{name}.hada_w{number}_a", (outputs, rank)),
            build.trained(f"{name}.hada_w{number}_b", (rank, inputs)),
        )
        for number in (1, 2)
    )
    return DenseDelta(Hadamard((*first, *second)))

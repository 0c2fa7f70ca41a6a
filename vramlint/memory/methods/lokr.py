"""LoKr: the Kronecker product of two matrices."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.dense_delta import DenseDelta, Kronecker
from vramlint.memory.ops.linear import Adapter as Wrapper


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two matrices, whole or as factors.

    Which of both matrices is whole: peft 0.21 tuners/lokr/layer.py, update_layer.
    """
    rank, factor = adapters.rank_of(adapter, name), option(adapter, "decompose_factor", -1)
    (in_small, in_large), (out_small, out_large) = (adapters.factored(size, factor) for size in (inputs, outputs))
    both = adapter.options.get("decompose_both") is True
    first = both and rank < max(out_small, in_small) / 2
    second = rank < max(out_large, in_large) / 2
    parts = []
    for number, apart, rows, columns in ((1, first, out_small, in_small), (2, second, out_large, in_large)):
        shapes = {"_a": (rows, rank), "_b": (rank, columns)} if apart else {"": (rows, columns)}
        parts.append(tuple([build.trained(f"{name}.lokr_w{number}{end}", shape) for end, shape in shapes.items()]))
    return DenseDelta(Kronecker(*parts))

"""PEANuT: a delta that is a function of the weight."""

from __future__ import annotations

from vramlint.job import Adapter
from vramlint.memory import adapters
from vramlint.memory.adapters import option
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.changed_weights import ProducedDelta
from vramlint.memory.ops.linear import Adapter as Wrapper
from vramlint.memory.refusal import NotFollowedError


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """Two factors over the outputs.

    Raises:
        NotFollowedError: there are layers between them, or another activation.
    """
    if option(adapter, "depth", 0) or adapter.options.get("act_fn", "relu") != "relu":
        raise NotFollowedError(f"the form of PEANuT on {name}")
    rank = adapters.rank_of(adapter, name)
    first = build.trained(f"{name}.peanut_A.weight", (rank, outputs))
    return ProducedDelta(first, build.trained(f"{name}.peanut_B.weight", (outputs, rank)))

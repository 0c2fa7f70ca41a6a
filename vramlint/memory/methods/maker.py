"""What a method asks of whoever makes the parameters of adapters."""

from __future__ import annotations

from typing import Protocol

from vramlint.job import Adapter
from vramlint.memory.ops.low_rank import LowRank
from vramlint.memory.tensor import Parameter, Shape


class Maker(Protocol):
    """`adapted.Adapted`, as far as methods know it."""

    adapter: Adapter | None
    model_type: str
    peft: tuple[int, ...]
    checkpointed: bool

    @property
    def dtype(self) -> str:
        """What the weights are loaded in, and buffers."""

    def trained(self, name: str, shape: Shape, *, decay: bool = True, kept: bool = False) -> Parameter:
        """A parameter of an adapter; what a trainer casts everything to, `kept` ones are not."""

    def shared(self, name: str, shape: Shape) -> Parameter:
        """A parameter that all layers share, made when the first asks for it."""

    def wide(self, name: str, shape: Shape) -> Parameter:
        """A parameter of an encoder of prompts."""

    def low_rank(self, name: str, n_in: int, n_out: int, *, count: int = 1) -> LowRank:
        """Two factors; `count` of them side by side share one A."""

    def share_factors(self, rank: int, inputs: int, outputs: int) -> None:
        """Factors of which every layer takes a part: buffers as large as any."""

    def share_bases(self, rank: int, bases: int, small: int, large: int) -> int:
        """Random bases of which every layer takes a part; how many there are for the layers so far."""

    def penalise(self, *parameters: Parameter) -> None:
        """Add the orthogonality of `parameters` to the loss."""

    def buffer(self, nbytes: int) -> None:
        """A registered buffer of every layer that is being built."""

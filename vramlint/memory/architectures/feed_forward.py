"""What stands behind attention in a decoder layer."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class FeedForward(Protocol):
    """One MLP, or a choice of them."""

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Map [B, S, H] to [B, S, H]."""


class GatedMlp(Struct):
    """LlamaMLP, with the dropout that SeedOssMLP adds."""

    gate: Weights
    up: Weights
    down: Weights
    activation: str = "silu"
    dropout: float = 0.0

    @classmethod
    def of(cls, build: Builder, name: str, hidden: int, inner: int, activation: str, *, bias: bool) -> GatedMlp:
        """Build `name.gate_proj`, `name.up_proj` and `name.down_proj`."""
        return cls(
            gate=build.linear(f"{name}.gate_proj", hidden, inner, bias=bias),
            up=build.linear(f"{name}.up_proj", hidden, inner, bias=bias),
            down=build.linear(f"{name}.down_proj", inner, hidden, bias=bias),
            activation=activation,
        )

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """`down(activation(gate(x)) * up(x))`."""
        down = linear(
            tape,
            e.mul(tape, activation(tape, self.activation, linear(tape, x, self.gate)), linear(tape, x, self.up)),
            self.down,
        )
        return e.dropout(tape, down, self.dropout)


class FusedMlp(Struct):
    """Phi3MLP: gate and up in one product."""

    gate_up: Weights
    down: Weights
    activation: str = "silu"

    @classmethod
    def of(cls, build: Builder, name: str, hidden: int, inner: int, activation: str) -> FusedMlp:
        """Build `name.gate_up_proj` and `name.down_proj`."""
        return cls(
            gate_up=build.linear(f"{name}.gate_up_proj", hidden, 2 * inner),
            down=build.linear(f"{name}.down_proj", inner, hidden),
            activation=activation,
        )

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """`down(up * activation(gate))` of the two halves of one product."""
        up = linear(tape, x, self.gate_up)
        gate, up = shaping.split_last(tape, up, (up.shape[-1] // 2, up.shape[-1] // 2))
        up = e.mul(tape, up, activation(tape, self.activation, gate))
        return linear(tape, up, self.down)


class PlainMlp(Struct):
    """Two products without a gate: Starcoder2MLP, NemotronMLP."""

    up: Weights
    down: Weights
    activation: str
    dropout: float = 0.0

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """`down(activation(up(x)))`; each result takes the name of the one before."""
        x = linear(tape, x, self.up)
        x = activation(tape, self.activation, x)
        x = linear(tape, x, self.down)
        return e.dropout(tape, x, self.dropout)

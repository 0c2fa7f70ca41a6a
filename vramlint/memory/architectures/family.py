"""What the simulator asks of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.norm import layer_norm
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

Config = Mapping[str, object]


class CausalLM(Protocol):
    """A decoder with a language-model head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]]
    """LoRA targets by `model_type` when none are given (peft 0.21 utils/constants.py)."""
    widens_logits: ClassVar[bool]
    """Whether the model's own loss, before transformers 4.46, made the logits float32."""
    embedding: Parameter
    head: Weights

    def __init__(self, build: Builder, config: Config) -> None:
        """Build all weights.

        Raises:
            KeyError, ValueError: a dimension is missing from `config` or no number.
        """

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """From token embeddings [B, S, H] to the head's input [B, S, H]."""

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings [B, S, H] of token ids [B, S]."""


def number(config: Config, *keys: str, default: int | None = None) -> int:
    """The first of `keys` that the config gives as an integer.

    Raises:
        KeyError: none is there and no default is given.
    """
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    if default is None:
        raise KeyError(keys[0])
    return default


def ratio(config: Config, *keys: str, default: float) -> float:
    """The first of `keys`, or of the same keys under `rope_parameters`, that the config gives as a number."""
    nested = config.get("rope_parameters")
    for source in (config, nested if isinstance(nested, Mapping) else {}):
        for key in keys:
            value = source.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return default


def probability(config: Config, key: str, default: float = 0.0) -> float:
    """A dropout probability."""
    return ratio(config, key, default=default)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Weight and bias of nn.LayerNorm."""

    weight: Parameter
    bias: Parameter

    @classmethod
    def of(cls, build: Builder, name: str, size: int) -> LayerNorm:
        """Build `name.weight` and `name.bias`."""
        return cls(build.norm(f"{name}.weight", size), build.norm(f"{name}.bias", size))

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Normalise over the last dimension."""
        return layer_norm(tape, x, self.weight, self.bias)

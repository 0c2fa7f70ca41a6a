"""What the simulator asks of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from vramlint.memory.ops.linear import Weights
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

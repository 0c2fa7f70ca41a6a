"""StarCoder2: mistral with layer norms, biases, dropouts and no gate (transformers 5.23 models/starcoder2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm, probability
from vramlint.memory.architectures.feed_forward import FeedForward, PlainMlp
from vramlint.memory.architectures.llama import Layer, Llama, Norm
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Starcoder2(Llama):
    """Starcoder2ForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    own_loss_until: tuple[int, ...] = (4, 47)
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "vocab_size": 49152,
        "hidden_act": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        self.bias = bool(config.get("use_bias", True))
        self.dropout = probability(config, "residual_dropout")
        self.embedding_dropout = probability(config, "embedding_dropout")
        super().__init__(build, config)

    def _norm(self, build: Builder, name: str) -> Norm:
        return LayerNorm.of(build, name, self.hidden)

    def _biases(self, config: Config) -> tuple[bool, bool]:
        return self.bias, self.bias

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        return PlainMlp(
            up=build.linear(f"{name}.c_fc", self.hidden, self.intermediate, bias=self.bias),
            down=build.linear(f"{name}.c_proj", self.intermediate, self.hidden, bias=self.bias),
            activation=self.activation,
            dropout=self.dropout,
        )

    def first_input(self, tape: Tape, embedded: Tensor) -> Tensor:
        """Embeddings under dropout."""
        return e.dropout(tape, embedded, self.embedding_dropout)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        return e.dropout(tape, super()._attention(tape, regime, w, hidden, position, mask), self.dropout)

"""What all encoders share: a body below a head, and layers that normalise behind their residuals."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.family import Config, LayerNorm, Network
from vramlint.memory.leaves import capture
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

BERT_LANGUAGE_HEAD = (
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder",
)
ROBERTA_LANGUAGE_HEAD = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")


class Layer(Struct):
    """Weights of one encoder layer."""

    q: Weights
    k: Weights
    v: Weights
    o: Weights
    attention_norm: LayerNorm
    up: Weights
    down: Weights
    output_norm: LayerNorm


def layer_of(build: Builder, name: str, size: int, inner: int, norms: tuple[str, str]) -> Layer:
    """BERT's layer under `name`, with an MLP of `inner`; `norms` are the names of the norms of attention and MLP."""
    attn = f"{name}.attention"
    return Layer(
        q=build.linear(f"{attn}.self.query", size, size, bias=True),
        k=build.linear(f"{attn}.self.key", size, size, bias=True),
        v=build.linear(f"{attn}.self.value", size, size, bias=True),
        o=build.linear(f"{attn}.output.dense", size, size, bias=True),
        attention_norm=LayerNorm.of(build, f"{attn}.{norms[0]}", size),
        up=build.linear(f"{name}.intermediate.dense", size, inner, bias=True),
        down=build.linear(f"{name}.output.dense", inner, size, bias=True),
        output_norm=LayerNorm.of(build, f"{name}.{norms[1]}", size),
    )


class Encoder(Network):
    """A body that turns tokens into states."""

    pools: ClassVar[bool] = False
    """Whether the body has its pooler."""
    language_head: Sequence[str] = BERT_LANGUAGE_HEAD
    """Names of the head over words: its own layer, its norm, and the decoder."""
    language_activation: str = ""
    """Its activation, if not that of the layers."""
    embedding: Parameter
    vocabulary: int
    hidden: int
    width: int
    """Features of an embedding."""
    activation: str
    classifier_dropout: float
    """Before the classifier of sequences or tokens."""
    answer_dropout: float = 0.0
    """Before the head that marks answers."""

    @abstractmethod
    def _head(self, build: Builder, config: Config) -> None:
        """Build what stands above the body."""

    @abstractmethod
    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """The states [B, S, H] of all tokens."""

    def _idle(self, build: Builder) -> None:
        """Build what the model without a head has, although nothing is trained through it."""

    def _pool_idly(self, tape: Tape, hidden: Tensor) -> None:
        """Run that."""


Drop = Callable[[Tape, Tensor, float], Tensor]
"""Dropout of some kind."""


def add_and_norm(
    tape: Tape, x: Tensor, residual: Tensor, dense: Weights, norm: LayerNorm, dropout: float, drop: Drop = e.dropout
) -> Tensor:
    """BertSelfOutput and BertOutput: `LayerNorm(dropout(dense(x)) + residual)`."""
    hidden = linear(tape, x, dense)
    hidden = drop(tape, hidden, dropout)
    return norm(tape, e.add(tape, hidden, residual))


def embedded(tape: Tape, regime: Regime, words: Tensor) -> Tensor:
    """The output of the token embedding; checkpointing may make it require a gradient."""
    if regime.inputs_require_grad and not words.requires_grad:
        capture(tape, words, [])
    return words

"""A decoder with a language-model head: what all causal language models share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, Network, Outputs
from vramlint.memory.ops import fused_loss
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import causal_lm_loss, causal_lm_loss_before_4_46, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

SHARED_LOSS = (4, 46)
"""Since then all causal models of transformers share one loss function (loss/loss_utils.py)."""
FUSED_LOSSES = {"fused": fused_loss.liger, "chunked": fused_loss.chunked}
"""Losses that take the head's weight instead of logits, by Objective.loss."""


class CausalLM(Network):
    """A decoder with a language-model head."""

    widens_logits: ClassVar[bool]
    """Whether the model's own loss, before transformers 4.46, made the logits float32."""
    predicts_next: ClassVar[bool] = True
    """Whether labels are the tokens themselves, shifted by one."""
    embedding: Parameter
    head: Weights

    def build_head(
        self,
        build: Builder,
        config: Config,
        name: str,
        width: int,
        vocabulary: int,
        *,
        ties: bool,
        bias: bool = False,
    ) -> Weights:
        """The head `name` over the body's output of `width`; `ties` says what holds where the config does not say."""
        tied = self.embedding if config.get("tie_word_embeddings", ties) else None
        return build.linear(name, width, vocabulary, bias=bias, head=True, tied_to=tied)

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings [B, S, H] of token ids [B, S]."""
        return embedding(tape, tokens, self.embedding)

    def entered(self, tape: Tape, embedded: Tensor) -> Tensor:
        """What the body makes of its embedding's output, instead of it."""
        return embedded

    @abstractmethod
    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """From token embeddings [B, S, H] to the head's input [B, S, H]."""

    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """The body's forward, from token ids to the head's input."""
        embedded = self.embed(tape, batch["input_ids"])
        if regime.inputs_require_grad and not embedded.requires_grad:
            tape.capture(embedded, [])
        embedded = self.entered(tape, embedded)
        return self.hidden_states(tape, regime, embedded)

    def logits(self, tape: Tape, hidden: Tensor) -> Tensor:
        """From the head's input to logits [B, S, V]."""
        return linear(tape, hidden, self.head)

    def next_logits(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor], *, whole: bool) -> Tensor:
        """Logits [B, 1, V] behind a prompt, or with `whole` those of all its positions in float32."""
        embedded = self.entered(tape, self.embed(tape, batch["input_ids"]))
        hidden = self.hidden_states(tape, regime, embedded)
        del embedded
        if whole:
            return tape.to(self.logits(tape, hidden), "float32")
        return self.logits(tape, hidden.as_shape((hidden.shape[0], 1, hidden.shape[-1])))

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """…ForCausalLM.forward."""
        hidden = self.last_hidden_state(tape, regime, batch)
        fused = FUSED_LOSSES.get(regime.loss)
        if fused is not None:
            return Outputs(fused(tape, hidden, self.head), [], tape.taken_cache())
        logits = self.logits(tape, hidden)
        mark_logits(tape, logits)
        if regime.transformers >= SHARED_LOSS:
            return Outputs(causal_lm_loss(tape, logits, batch["labels"]), [logits], tape.taken_cache())
        if self.widens_logits:
            logits = tape.to(logits, "float32")
            mark_logits(tape, logits)
        return Outputs(causal_lm_loss_before_4_46(tape, logits), [logits], tape.taken_cache())

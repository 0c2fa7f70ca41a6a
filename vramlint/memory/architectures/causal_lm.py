"""A decoder with a language-model head: what all causal language models share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, Network, Outputs
from vramlint.memory.kernels import AMPERE
from vramlint.memory.leaves import capture
from vramlint.memory.ops import fused_loss
from vramlint.memory.ops.checkpointed_head import checkpointed_head
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.fused_head import FUSED_FROM, fused_head
from vramlint.memory.ops.liger import cross_entropy as liger_cross_entropy
from vramlint.memory.ops.liger_head import liger_head
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.planned import divided_embedding
from vramlint.memory.ops.softmax import (
    causal_lm_loss,
    causal_lm_loss_before_4_49,
    mark_logits,
    own_loss,
    shifted_copy,
)
from vramlint.memory.ops.unsloth_head import unsloth_head
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

if TYPE_CHECKING:
    from vramlint.memory.ops.prefixes import Prefix
    from vramlint.memory.ops.prompts import Prompt

SHARED_LOSS = (4, 46)
"""Since then most causal models of transformers share one loss function (loss/loss_utils.py), which widens logits."""
SHIFTED_LABELS = (4, 49)
"""Since then that function shifts the labels; before, it copied the logits without the last position."""
FUSED, CUT, LIGER = "fused", "cut", "liger-cross-entropy"
"""Liger's head, Cut Cross Entropy and Liger's loss of given logits, by Objective.loss."""
UNSLOTH = "unsloth"
"""Unsloth's head, by Objective.loss."""
CHUNKED = "chunked"
"""The head of TRL's SFTTrainer, by Objective.loss."""
WITHOUT_LOGITS = frozenset({FUSED, CUT, CHUNKED, UNSLOTH})
"""Losses that take the head's weight instead of logits."""
IN_PLACE = "in-place"
"""The loss whose kernel takes the logits and overwrites them, by Objective.loss."""


class CausalLM(Network):
    """A decoder with a language-model head."""

    widens_logits: ClassVar[bool]
    """Whether the model's own loss made the logits float32."""
    own_loss_until: tuple[int, ...] = SHARED_LOSS
    """Before this version of transformers the model's forward took the loss itself."""
    widens_logits_until: ClassVar[tuple[int, ...]] = ()
    """Before this version of transformers its forward widened the logits for the shared loss, too."""
    narrows_logits: ClassVar[bool] = False
    """Whether it gave the widened logits the states' dtype again before it returned them."""
    predicts_next: ClassVar[bool] = True
    """Whether labels are the tokens themselves, shifted by one."""
    embedding: Parameter
    head: Weights
    prompt: Prompt | None = None
    """Virtual tokens that train instead of the model."""
    prefix: Prefix | None = None
    """Keys and values that do."""
    embedding_ranks: int = 1
    """Ranks that share the embedding by its rows."""
    free: int = 0
    """Bytes of the card beside the weights, where a kernel asks for them; 0: not known."""

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
        if self.embedding_ranks > 1:
            return divided_embedding(tape, tokens, self.embedding, self.embedding_ranks)
        return embedding(tape, tokens, self.embedding)

    def entered(self, tape: Tape, embedded: Tensor) -> Tensor:
        """What the body makes of its embedding's output, instead of it."""
        return embedded

    @abstractmethod
    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """From token embeddings [B, S, H] to the head's input [B, S, H]."""

    def handed(self, tape: Tape, regime: Regime, entering: list[Tensor]) -> Tensor:
        """The same from embeddings that nobody else holds, for a body that lets go of them."""
        return self.hidden_states(tape, regime, entering.pop())

    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """The body's forward, from token ids to the head's input."""
        if self.prefix is not None:
            self.prefix.begin(tape, batch["input_ids"].shape[0])
            regime = replace(regime, prefix=self.prefix)
        embedded = self.embed(tape, batch["input_ids"])
        if regime.inputs_require_grad and not embedded.requires_grad:
            capture(tape, embedded, [])
        if self.prompt is not None:
            embedded = self.prompt(tape, embedded)
        entering = [self.entered(tape, embedded)]
        del embedded
        hidden = self.handed(tape, regime, entering)
        if self.prefix is not None:
            self.prefix.end()
        return hidden

    def logits(self, tape: Tape, hidden: Tensor) -> Tensor:
        """From the head's input to logits [B, S, V]."""
        return self.finish(tape, [linear(tape, hidden, self.head)])

    def finish(self, tape: Tape, held: list[Tensor]) -> Tensor:
        """What the model makes of the product with its head, the only one of `held`, which is handed over."""
        return held.pop()

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
        if regime.loss in WITHOUT_LOGITS:
            return Outputs(self._loss_without_logits(tape, regime, hidden), [], tape.lifetimes.taken_cache())
        logits = self.logits(tape, hidden)
        mark_logits(tape, logits)
        shared = regime.transformers >= self.own_loss_until
        widens = self.widens_logits and (not shared or regime.transformers < self.widens_logits_until)
        if widens:
            logits = tape.to(logits, "float32")
            mark_logits(tape, logits)
        if regime.loss == IN_PLACE:
            loss = _loss_in_place(tape, logits, shared=shared, copies=regime.transformers < SHIFTED_LABELS)
        elif regime.loss == LIGER:
            loss = _loss_by_liger(tape, logits, copies=regime.transformers < SHIFTED_LABELS)
        elif not shared:
            loss = own_loss(tape, logits)
        elif regime.transformers < SHIFTED_LABELS:
            loss = causal_lm_loss_before_4_49(tape, logits)
        else:
            loss = causal_lm_loss(tape, logits, batch["labels"])
        if widens and self.narrows_logits:
            logits = tape.to(logits, hidden.dtype)
        return Outputs(loss, [logits], tape.lifetimes.taken_cache())

    def _loss_without_logits(self, tape: Tape, regime: Regime, hidden: Tensor) -> Tensor:
        if regime.loss == FUSED:
            return liger_head(tape, hidden, self.head, regime.liger, accumulates=regime.kernels.capability >= AMPERE)
        if regime.loss == UNSLOTH:
            return unsloth_head(tape, hidden, self.head, self.free)
        if regime.loss == CUT:
            return fused_loss.cut(tape, hidden, self.head)
        if regime.trl >= FUSED_FROM:
            return fused_head(tape, hidden, self.head)
        return checkpointed_head(tape, hidden, self.head, self.finish, regime.trl)


def _loss_by_liger(tape: Tape, logits: Tensor, *, copies: bool) -> Tensor:
    """ForCausalLMLoss with Liger's cross entropy; before the labels were shifted, the wide logits were copied."""
    batch, length, vocabulary = logits.shape
    wide = tape.to(logits, "float32")
    if copies:
        wide, length = shifted_copy(tape, wide), length - 1
    return liger_cross_entropy(tape, wide.as_shape((batch * length, vocabulary)))


def _loss_in_place(tape: Tape, logits: Tensor, *, shared: bool, copies: bool) -> Tensor:
    """The loss around the kernel: before the labels were shifted, the logits were copied."""
    batch, length, vocabulary = logits.shape
    if copies:
        wide = tape.to(logits, "float32") if shared else logits
        logits = shifted_copy(tape, wide)
        del wide
        length -= 1
    return fused_loss.in_place(tape, logits.as_shape((batch * length, vocabulary)))

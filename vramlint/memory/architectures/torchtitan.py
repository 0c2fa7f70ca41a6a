"""torchtitan's dense decoders (torchtitan 0.2 models/{llama3,qwen3}/model/model.py, components/loss.py).

They are torchtune's but for three things: norms are torch's kernel, attention takes the fewer key and value heads as
they are, and logits keep their dtype until the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, Outputs, number
from vramlint.memory.architectures.torchtune import TransformerDecoder
from vramlint.memory.ops import dtensor, head_chunks, inductor
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class Transformer(TransformerDecoder):
    """torchtitan.models.llama3.Transformer and its like."""

    shares_heads: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        self.ranks = number(config, "tensor_ranks", default=1)
        """Ranks that share the matrices; sizes are those of one of them."""
        self.loss_parallel = bool(config.get("loss_parallel"))
        if self.embedding is not None:
            self.embedding.whole_gradient = self.ranks > 1

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings, of a part of the sequence where ranks share it."""
        if self.ranks > 1 and self.embedding is not None:
            return dtensor.divided_embedding(tape, tokens, self.embedding, self.ranks)
        return super().embed(tape, tokens)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Trainer.forward_backward_step: the loss widens the logits, in one kernel where it is compiled."""
        hidden = self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))
        if regime.loss == head_chunks.BY_CHUNK:
            return Outputs(head_chunks.by_chunk(tape, hidden, self.head), [], tape.lifetimes.taken_cache())
        logits = linear(tape, self._column_input(tape, hidden), self.head)
        del hidden
        if self.ranks > 1 and not self.loss_parallel:
            logits = dtensor.whole_logits(tape, logits, self.ranks)
        tape.course.returns()
        mark_logits(tape, logits)
        flat = logits.as_shape((logits.shape[0] * logits.shape[1], logits.shape[2]))
        if regime.loss == inductor.COMPILED:
            loss = inductor.cross_entropy(tape, flat)
        else:
            wide = tape.to(flat, "float32")
            mark_logits(tape, wide)
            divided = self.ranks > 1 and self.loss_parallel
            loss = (dtensor.divided_cross_entropy if divided else cross_entropy)(tape, wide, batch["labels"])
        return Outputs(loss, [], tape.lifetimes.taken_cache())

    def _column_input(self, tape: Tape, x: Tensor) -> Tensor:
        return dtensor.gathered(tape, x, self.ranks)

    def _row(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        return dtensor.row(tape, x, weights, self.ranks)

    def _normalise(self, tape: Tape, x: Tensor, norm: Parameter) -> Tensor:
        return inductor.rms_norm(tape, x, norm)

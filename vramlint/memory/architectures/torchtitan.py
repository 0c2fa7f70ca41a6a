"""torchtitan's dense decoders (torchtitan 0.2 models/{llama3,qwen3}/model/model.py, components/loss.py).

They are torchtune's but for three things: norms are torch's kernel, attention takes the fewer key and value heads as
they are, and logits keep their dtype until the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Outputs
from vramlint.memory.architectures.torchtune import TransformerDecoder
from vramlint.memory.ops import head_chunks, inductor
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor


class Transformer(TransformerDecoder):
    """torchtitan.models.llama3.Transformer and its like."""

    shares_heads: ClassVar[bool] = True

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Trainer.forward_backward_step: the loss widens the logits, in one kernel where it is compiled."""
        hidden = self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))
        if regime.loss == head_chunks.BY_CHUNK:
            return Outputs(head_chunks.by_chunk(tape, hidden, self.head), [], tape.lifetimes.taken_cache())
        logits = linear(tape, hidden, self.head)
        del hidden
        tape.course.returns()
        mark_logits(tape, logits)
        flat = logits.as_shape((logits.shape[0] * logits.shape[1], self.vocabulary))
        if regime.loss == inductor.COMPILED:
            loss = inductor.cross_entropy(tape, flat)
        else:
            wide = tape.to(flat, "float32")
            mark_logits(tape, wide)
            loss = cross_entropy(tape, wide, batch["labels"])
        return Outputs(loss, [], tape.lifetimes.taken_cache())

    def _normalise(self, tape: Tape, x: Tensor, norm: Parameter) -> Tensor:
        return inductor.rms_norm(tape, x, norm)

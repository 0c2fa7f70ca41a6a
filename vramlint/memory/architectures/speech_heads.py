"""What stands above a speech encoder: characters for every frame, or a class (transformers 5.23 models/wav2vec2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, Outputs, label_count, number
from vramlint.memory.architectures.wav2vec2 import STATES_ALWAYS_FROM, SpeechEncoder
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.ctc import ctc_loss
from vramlint.memory.ops.linear import linear
from vramlint.memory.ops.masking import write_zeros
from vramlint.memory.ops.pooling import mean, total
from vramlint.memory.ops.softmax import cross_entropy, mark_logits, softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

FRAMES_PER_LABEL = 4
"""Without a target length: English speech has about 14 characters a second, the encoder makes 50 frames of it."""


class SpeechForCTC(SpeechEncoder):
    """Wav2Vec2ForCTC and HubertForCTC."""

    def _head(self, build: Builder, config: Config) -> None:
        self.classifier = build.linear("lm_head", self.hidden, number(config, "vocab_size", default=32), bias=True)

    def labels(self, batch: Batch) -> Shape:
        """Characters of every utterance."""
        length = batch.target_length or max(self.features.frames(batch.sequence_length) // FRAMES_PER_LABEL, 1)
        return (batch.micro_batch_size, length)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Logits for every frame."""
        last, features = self.last_hidden_state(tape, regime, batch)
        hidden = e.dropout(tape, last, self.final_dropout)
        logits = linear(tape, hidden, self.classifier)
        mark_logits(tape, logits)
        ones = None if "attention_mask" in batch else tape.empty(batch["input_values"].shape, "int64", "ones")
        loss = ctc_loss(tape, logits, batch["labels"])
        del features, ones
        return Outputs(loss, [logits])


class SpeechForSequenceClassification(SpeechEncoder):
    """Wav2Vec2ForSequenceClassification and HubertForSequenceClassification."""

    def _head(self, build: Builder, config: Config) -> None:
        self.layer_weights: Parameter | None = None
        if config.get("use_weighted_layer_sum", False):
            self.layer_weights = build.parameter("layer_weights", (self.count + 1,))
            if self.stable and build.transformers >= STATES_ALWAYS_FROM:
                for parameter in self.norm.parameters():  # behind the states: unused
                    parameter.requires_grad = False
        width = number(config, "classifier_proj_size", default=256)
        self.projector = build.linear("projector", self.hidden, width, bias=True)
        self.classifier = build.linear("classifier", width, label_count(config), bias=True)

    def labels(self, batch: Batch) -> Shape:
        """One for every utterance."""
        return (batch.micro_batch_size,)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The mean over time of the last states, or of a weighted sum of all layers' states."""
        new = regime.transformers >= STATES_ALWAYS_FROM
        states: list[Tensor] = []
        collects = new or self.layer_weights is not None
        last, features = self.last_hidden_state(tape, regime, batch, states if collects else None)
        hidden = last if self.layer_weights is None else self._weighted(tape, states, self.layer_weights)
        states.clear()
        hidden = linear(tape, hidden, self.projector)
        logits = linear(tape, self._mean(tape, hidden, "attention_mask" in batch), self.classifier)
        loss = cross_entropy(tape, logits, batch["labels"])
        del last, features
        kept = tape.lifetimes.taken_cache()
        if new:
            tape.lifetimes.drop(kept)
        return Outputs(loss, [logits], kept)

    def _weighted(self, tape: Tape, states: Sequence[Tensor], weights: Parameter) -> Tensor:
        batch, length, size = states[0].shape
        shape = (batch, self.count + 1, length, size)
        dtype = "float32" if any(state.dtype == "float32" for state in states) else states[0].dtype
        stacked = tape.apply("stack", states, shape, dtype, _stack_backward)
        normed = softmax(tape, weights, in_float32=False)
        product = e.mul(tape, stacked, shaping.viewed(tape, normed, (self.count + 1, 1, 1)))
        return total(tape, product, (batch, length, size))

    def _mean(self, tape: Tape, hidden: Tensor, masked: bool) -> Tensor:
        batch, _, width = hidden.shape
        if not masked:
            return mean(tape, hidden, (batch, width))
        expanded = tape.empty(hidden.shape, "bool", "expanded mask")
        outside = tape.empty(hidden.shape, "bool", "bitwise_not")
        hidden = write_zeros(tape, hidden, outside, into_view=self.projector.adapter is None)
        summed = total(tape, hidden, (batch, width))
        del expanded, outside
        return e.linear_unary(tape, "div", summed)


def _stack_backward(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """Views of the gradient, converted for states of another dtype, each where its layer is repeated."""
    (gradient,) = gradients
    results: list[Tensor | None] = []
    for edge in node.edges:
        if gradient is None or edge is None:
            results.append(None)
        elif edge[3] == gradient.dtype or not isinstance(edge[0], Node):
            results.append(gradient.as_shape(edge[2]))
        else:
            with tape.course.within(edge[0].unit):
                results.append(tape.empty(edge[2], edge[3], "to"))
    return results

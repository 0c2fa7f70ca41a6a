"""torchtitan's dense decoders (torchtitan 0.2 models/{llama3,qwen3}/model/model.py, components/loss.py).

They are torchtune's but for three things: norms are torch's kernel, attention takes the fewer key and value heads as
they are, and logits keep their dtype until the loss.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar

from vramlint.memory.architectures.family import Config, Outputs, number, numbers
from vramlint.memory.architectures.torchtune import Attention, Layer, TransformerDecoder
from vramlint.memory.leaves import capture
from vramlint.memory.ops import dtensor, head_chunks, inductor, ring
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
        self.ranks = number(config, "tensor_ranks", default=1)
        """Ranks that share the matrices; sizes are those of one of them."""
        self.context = number(config, "context_ranks", default=1)
        """Ranks that share a sequence; rows are the part of one of them."""
        self.loss_parallel = bool(config.get("loss_parallel"))
        whole = (number(config, "num_hidden_layers"),)
        self.chunks = numbers(config, "chunks", whole)
        """Layers of each stage that a rank of a pipeline has."""
        self.first, self.last = bool(config.get("first", True)), bool(config.get("last", True))
        """Whether they begin with the model's first, and end with its last."""
        self.turns_back = bool(config.get("turns_back"))
        """Whether the second chunk takes what the first one gives: the point of a V."""
        self.dtype = build.dtype
        self.sent: list[Tensor | None] = []
        """The gradient of what a stage received, until it is sent back."""
        super().__init__(build, config)

    def _build(self, build: Builder, config: Config, tables: int) -> None:
        del tables
        if self.first:
            self.embedding = build.parameter("tok_embeddings.weight", (self.vocabulary, self.hidden))
            self.embedding.whole_gradient = self.ranks > 1
            self.embedding.twin = bool(config.get("twin_embedding"))
        self.stacks = [self._stack(build, chunk) for chunk in range(len(self.chunks))]
        if self.last:
            self._end(build, config)

    def _stack(self, build: Builder, chunk: int) -> Sequence[object]:
        return [self._layer_of(build, chunk, position) for position in build.layers(self.kinds(chunk), stack=chunk)]

    def _layer_of(self, build: Builder, chunk: int, position: int) -> object:
        return self._layer(build, f"layers.{chunk}.{position}")

    def forward(self, tape: Tape, regime: Regime, layer: object, x: Tensor) -> Tensor:
        """TransformerBlock.forward."""
        assert isinstance(layer, Layer)  # noqa: S101  narrowing: what `_layer_of` makes
        return self._forward(tape, regime, layer, x)

    def kinds(self, chunk: int) -> int | Sequence[Hashable]:
        """The layers of a chunk: their number, as all are alike."""
        return self.chunks[chunk]

    @property
    def begins(self) -> bool:
        """Whether the chunk that runs is the model's first."""
        return self.first and self.chunk == 0

    @property
    def ends(self) -> bool:
        """Whether the chunk that runs is the model's last."""
        return self.last and self.chunk == len(self.chunks) - 1

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings, of a part of the sequence where ranks share it; what the stage before sent, elsewhere."""
        if not self.begins:
            received = Tensor((tokens.shape[0], tokens.shape[1] // self.ranks, self.hidden), self.dtype, None)
            capture(tape, received, self.sent)
            return received
        if self.ranks > 1:
            return dtensor.divided_embedding(tape, tokens, self.embedding, self.ranks)
        return super().embed(tape, tokens)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """Trainer.forward_backward_step: the loss widens the logits, in one kernel where it is compiled."""
        hidden = self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))
        if not self.ends:
            tape.course.returns()
            return Outputs(hidden, [], tape.lifetimes.taken_cache())
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
        kept = [] if len(self.chunks) == 1 and self.first else [logits]  # a pipeline keeps what its stages return
        return Outputs(loss, kept, tape.lifetimes.taken_cache())

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """The layers of the chunk that runs, and the last norm behind the model's last."""
        entering, layers = [embedded], self.stacks[self.chunk]
        del embedded

        def layer(x: Tensor, index: int) -> Tensor:
            return regime.layer(tape, lambda y: self.forward(tape, regime, layers[index], y), x)

        hidden = tape.course.repeat(self.kinds(self.chunk), layer, entering, stack=self.chunk)
        return self._normalise(tape, hidden, self.norm) if self.ends else hidden

    def _attended(self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.context == 1:
            return super()._attended(tape, regime, q, k, v)
        return ring.ring_attention(tape, q, k, v, self.context)

    def _attention(self, tape: Tape, regime: Regime, w: Attention, x: Tensor) -> Tensor:
        """Ranks that share a sequence pick the rotary table's rows for their positions, in every layer."""
        if self.context > 1:
            x = ring.with_table(tape, x, self.size)
        return super()._attention(tape, regime, w, x)

    def _column_input(self, tape: Tape, x: Tensor) -> Tensor:
        return dtensor.gathered(tape, x, self.ranks)

    def _row(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        return dtensor.row(tape, x, weights, self.ranks)

    def _normalise(self, tape: Tape, x: Tensor, norm: Parameter) -> Tensor:
        return inductor.rms_norm(tape, x, norm)

    def _normalise_heads(self, tape: Tape, x: Tensor, norm: Parameter) -> Tensor:
        return inductor.rms_norm(tape, x, norm)

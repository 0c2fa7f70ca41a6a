"""gpt-neox's GPT2ModelPipe on one rank (EleutherAI/gpt-neox@ea7aefd megatron/model, megatron/mpu).

The config is that of a rank: heads, widths and vocabulary are divided by the ranks that share the matrices, the layers
are one stage's. Where DeepSpeed's pipeline engine runs it, its buffers are part of it (runtime/pipe/engine.py of
EleutherAI/DeeperSpeed 0.16.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, Outputs, number, probability
from vramlint.memory.architectures.neox_layers import Layers
from vramlint.memory.leaves import capture
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import megatron, shaping
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import matmul_weight
from vramlint.memory.ops.softmax import mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor
from vramlint.memory.weights import Builder


class GPT2ModelPipe(CausalLM):
    """One rank's part."""

    widens_logits: ClassVar[bool] = True
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size")
        self.vocabulary = number(config, "vocab_size")
        self.first, self.last = bool(config.get("first", True)), bool(config.get("last", True))
        self.norms_last = bool(config.get("norms_last", self.last))
        self.pipelined = bool(config.get("pipelined"))
        self.narrow_loss = bool(config.get("fp16_lm_cross_entropy"))
        self.dropout = probability(config, "hidden_dropout", default=0.0)
        ranks, sequence = number(config, "tensor_ranks", default=1), bool(config.get("sequence"))
        self.group = megatron.Group(ranks, sequence=sequence, fused_gradients=False)
        self.dtype = build.dtype
        tied = bool(config.get("tie_word_embeddings", True))
        if self.first or (self.last and tied):
            self.embedding = build.parameter("word_embeddings.weight", (self.vocabulary, self.hidden))
            limit = number(config, "max_position_embeddings", default=0)
            learned = config.get("pos_emb") == "learned"
            shape = (limit, self.hidden)
            self.positions = build.parameter("position_embeddings.weight", shape) if learned else None
        self.layers = Layers(config, self.group)
        self.layers.build(build)
        self.final_norm = self.layers.norm(build, "final.norm") if self.norms_last else ()
        if self.last:
            shared = self.embedding if tied else None
            self.head = build.linear("final_linear", self.hidden, self.vocabulary, head=True, tied_to=shared)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """What the stages at the ends load (megatron/training.py, _get_batch); the mask is one for all rows."""
        tokens = (batch.micro_batch_size, batch.sequence_length)
        if self.pipelined and not (self.first or self.last):
            return {"input_ids": ((1, 1), "int64")}
        return {
            "input_ids": (tokens, "int64"),
            "labels": (tokens, "int64"),
            "position_ids": (tokens, "int64"),
            "loss_mask": (tokens, "float32"),
            "attention_mask": ((1, 1, batch.sequence_length, batch.sequence_length), "bool"),
        }

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """EmbeddingPipe.forward and _pre_transformer_block."""
        words = embedding(tape, tokens, self.embedding)
        if self.group.ranks > 1:
            tape.scratch((tokens.numel, tokens.nbytes), "masked input")
        if self.positions is not None:
            order = tape.empty(tokens.shape, "int64", "position ids")
            words = e.add(tape, words, embedding(tape, order, self.positions))
        words = e.dropout(tape, words, self.dropout)
        if self.group.gathers > 1:
            shape = (words.shape[0], words.shape[1] // self.group.gathers, self.hidden)
            words = tape.apply("scatter", (words,), shape, words.dtype, _whole)
        return self._turned(tape, words)

    def received(self, tape: Tape, batch: Batch, length: int) -> Tensor:
        """What the stage before has sent: the engine's buffer, and the clone that runs through the stage."""
        shape = (batch.micro_batch_size, length // self.group.gathers, self.hidden)
        sent = tape.empty(shape, self.dtype, "received")
        capture(tape, sent, [])
        mask = tape.empty((1, 1, length, length), "bool", "attention mask")
        return tape.apply("clone", (sent,), shape, self.dtype, e.pass_gradient, save=(sent, mask))

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """The stage's layers, and what is behind them on the last one."""
        entering = [embedded]
        del embedded
        hidden = self.layers(tape, regime, entering)
        if not self.norms_last:
            return hidden
        return self.layers.normed(tape, self._turned(tape, hidden), self.final_norm)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """PipelineEngine._exec_forward_pass: the loss on the last stage; elsewhere the output, until its backward."""
        if self.first:
            hidden = self.embed(tape, batch["input_ids"])
        else:
            shape = Batch(self.layers.rows, self.layers.keys)
            hidden = self.received(tape, shape, self.layers.keys)
        hidden = self.hidden_states(tape, regime, hidden)
        if not self.last:
            return Outputs(self._sent(hidden), [], tape.lifetimes.taken_cache())
        return self._loss(tape, hidden)

    def _sent(self, hidden: Tensor) -> Tensor:
        """The output is cut up among the ranks that share matrices (pipe_partitioned)."""
        if self.group.ranks == 1:
            return hidden
        sent = hidden.as_shape(hidden.shape)
        sent.storage = None
        return sent

    def _loss(self, tape: Tape, hidden: Tensor) -> Outputs:
        """ParallelLinearPipe or the tied embedding, and cross_entropy over the divided vocabulary."""
        logits = matmul_weight(tape, megatron.gathered(tape, hidden, self.group), self.head.weight, None)
        del hidden
        mark_logits(tape, logits)
        if self.narrow_loss:
            return Outputs(_entropy(tape, logits), [], tape.lifetimes.taken_cache())
        wide = tape.to(logits, "float32")
        mark_logits(tape, wide)
        return Outputs(_entropy(tape, wide), [logits], tape.lifetimes.taken_cache())

    def _turned(self, tape: Tape, x: Tensor) -> Tensor:
        """From rows first to tokens first, or back: a copy if there are several rows."""
        return shaping.reordered(tape, x, x.shape) if x.shape[0] > 1 else x


def _entropy(tape: Tape, logits: Tensor) -> Tensor:
    """vocab_parallel_cross_entropy, which writes softmax and gradient over its input (mpu/cross_entropy.py)."""
    rows = logits.shape[:-1]
    results = ((rows, "bool", "target mask"), (rows, "int64", "masked target"))
    losses = tape.apply("cross entropy", (logits,), rows, logits.dtype, _loss_backward, save=(logits,), results=results)
    return e.sum_all(tape, losses)


def _loss_backward(tape: Tape, node: Node, gradients: Gradients) -> list[Tensor | None]:
    saved = node.unpack(tape)
    edge = node.edges[0]
    found = None if edge is None else saved[0].as_shape(edge[2])
    del saved
    return [found]


def _whole(tape: Tape, node: Node, gradients: Gradients) -> list[Tensor | None]:
    edge, (gradient,) = node.edges[0], gradients
    return [None if edge is None or gradient is None else tape.empty(edge[2], gradient.dtype, "all-gather")]

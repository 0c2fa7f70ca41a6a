"""Megatron-Core's GPTModel on one rank (NVIDIA/Megatron-LM@d98e8a6 megatron/core/models/gpt, core/transformer).

The config is that of a rank: heads, widths and vocabulary are divided by the tensor-parallel ranks, the layers are one
stage's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, Outputs, number
from vramlint.memory.architectures.megatron_layers import Layers
from vramlint.memory.architectures.megatron_predictions import Predictions, masked, scaled
from vramlint.memory.leaves import capture
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import megatron
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.softmax import mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Gradients, Node, Shape, Tensor
from vramlint.memory.weights import Builder


class GPTModel(CausalLM):
    """One rank's part of megatron.core.models.gpt.GPTModel."""

    widens_logits: ClassVar[bool] = False
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size")
        self.vocabulary = number(config, "vocab_size")
        self.rotary = bool(config.get("rotary"))
        self.fuses_loss = bool(config.get("fused_loss"))
        self.first, self.last = bool(config.get("first", True)), bool(config.get("last", True))
        self.group = megatron.Group(
            number(config, "tensor_ranks", default=1),
            sequence=bool(config.get("sequence")),
            fused_gradients=bool(config.get("fused_gradients", True)),
        )
        self.dtype = build.dtype
        self.masked = bool(config.get("attention_mask"))
        self.keys = number(config, "keys", default=0)
        """Columns of the attention mask: the whole sequence, where ranks share it."""
        self.tied = bool(config.get("tie_word_embeddings", True))
        self.types = number(config, "token_types", default=0)
        """Kinds of token, each with an embedding."""
        self.count = number(config, "predictions", default=0)
        """Layers that predict further tokens."""
        self._embeddings(build, config)
        self.build_layers(build, config)
        self.predictions: Predictions | None = None
        if self.last and self.count:
            sparse = self.layers.sparse[-1][-1:] or (bool(config.get("experts")),)
            self.predictions = Predictions(build, self.layers, self.count, sparse=sparse[0])
        if self.last:
            self.build_output(build, config)

    def _embeddings(self, build: Builder, config: Config) -> None:
        limit = number(config, "max_position_embeddings", default=0)
        if self.first or (self.last and (self.tied or self.count)):
            self.embedding = build.parameter("embedding.word_embeddings.weight", (self.vocabulary, self.hidden))
        learned = (
            (self.first or (self.last and self.count))
            and not self.rotary
            and bool(config.get("learned_positions", True))
        )
        shape = (limit, self.hidden)
        self.positions = build.parameter("embedding.position_embeddings.weight", shape) if learned else None
        shape = (self.types, self.hidden)
        typed = self.first and self.types
        self.token_types = build.parameter("embedding.tokentype_embeddings.weight", shape) if typed else None

    def build_layers(self, build: Builder, config: Config) -> None:
        """The layers of every chunk, and the last norm."""
        self.layers = Layers(config, self.group)
        self.layers.build(build)
        self.final_norm = self.layers.norm(build, "decoder.final_layernorm") if self.last else ()

    def build_output(self, build: Builder, config: Config) -> None:
        """The head of the last stage."""
        del config
        shared = self.embedding if self.tied else None
        name, bias = "output_layer", self.has_head_bias
        self.head = build.linear(name, self.hidden, self.vocabulary, bias=bias, head=True, tied_to=shared)

    @property
    def has_head_bias(self) -> bool:
        """Whether logits get a bias."""
        return False

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """What the stages at the ends of the pipeline load: masks are made by the data loader, unless told not to."""
        tokens = (batch.micro_batch_size, batch.sequence_length)
        if not (self.first or self.last):
            return {"input_ids": (tokens, "int64")}
        whole: dict[str, tuple[Shape, str]] = {
            "input_ids": (tokens, "int64"),
            "labels": (tokens, "int64"),
            "position_ids": (tokens, "int64"),
        }
        whole["loss_mask"] = (tokens, "float32")
        if self.masked:
            whole["attention_mask"] = ((batch.micro_batch_size, 1, batch.sequence_length, self.keys), "bool")
        return whole

    @property
    def begins(self) -> bool:
        """Whether the chunk that runs is the model's first."""
        return self.first and self.chunk == 0

    @property
    def ends(self) -> bool:
        """Whether the chunk that runs is the model's last."""
        return self.last and self.chunk == self.layers.chunks - 1

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """LanguageModelEmbedding.forward on the first stage; elsewhere what the stage before has sent."""
        if not self.begins:
            shape = (tokens.shape[0], tokens.shape[1] // self.group.gathers, self.hidden)
            received = tape.empty(shape, self.dtype, "received")
            capture(tape, received, [])
            return received
        return self.embedded(tape, tokens)

    def embedded(self, tape: Tape, tokens: Tensor) -> Tensor:
        """LanguageModelEmbedding.forward."""
        words = embedding(tape, tokens, self.embedding)
        if self.group.ranks > 1:
            tape.scratch((tokens.numel, tokens.nbytes), "masked input")
        if self.positions is not None:
            order = tape.empty(tokens.shape, "int64", "position ids")
            words = e.add(tape, words, embedding(tape, order, self.positions))
        shape = (words.shape[0], words.shape[1] // self.group.gathers, self.hidden)
        turned = tape.apply("contiguous", (words,), shape, words.dtype, _grown)
        if self.token_types is not None:
            kinds = tape.empty((shape[0], shape[1]), "int64", "token types")
            turned = e.add(tape, turned, embedding(tape, kinds, self.token_types))
        return e.dropout(tape, turned, self.layers.hidden_dropout)

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """TransformerBlock.forward over one model chunk, with the last norm on the last stage."""
        entering = [embedded]
        del embedded
        hidden = self.layers(tape, regime, entering, chunk=self.chunk)
        return megatron.norm(tape, hidden, self.final_norm) if self.ends else hidden

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """GPTModel.forward: the loss of every token on the last stage, hidden states elsewhere."""
        hidden = self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))
        if not self.ends:
            sent = hidden.as_shape(hidden.shape)
            sent.storage = None  # deallocate_output_tensor (pipeline_parallel/schedules.py)
            return Outputs(sent, [], tape.lifetimes.taken_cache())
        if self.predictions is not None:
            hidden = self._predicted(tape, regime, self.predictions, hidden, batch["input_ids"])
        return Outputs(self.loss(tape, hidden), [], tape.lifetimes.taken_cache())

    def _predicted(
        self, tape: Tape, regime: Regime, predictions: Predictions, hidden: Tensor, tokens: Tensor
    ) -> Tensor:
        """process_mtp_loss: the decoder's output, on which the losses of the further tokens hang."""
        parts = predictions(tape, regime, hidden, tokens, lambda rolled: self.embedded(tape, rolled))
        hidden = parts.pop(0)
        logits = None
        while parts:
            logits = self.logits(tape, parts.pop(0))
            losses = masked(tape, megatron.cross_entropy(tape, logits, fused=self.fuses_loss))
            hidden = scaled(tape, hidden, losses)
            del losses
        del logits
        return hidden

    def loss(self, tape: Tape, hidden: Tensor) -> Tensor:
        """From the last norm's output [B, S, H] to a loss for every token."""
        logits = self.logits(tape, hidden)
        del hidden
        return megatron.cross_entropy(tape, logits, fused=self.fuses_loss)

    def logits(self, tape: Tape, hidden: Tensor) -> Tensor:
        """From hidden states [B, S, H] to [B, S, V / ranks]."""
        logits = megatron.column(tape, hidden, self.head, self.group)
        if self.head.bias is not None:
            logits = e.add(tape, logits, self.head.bias)
        mark_logits(tape, logits)
        return logits


def _grown(tape: Tape, node: Node, gradients: Gradients) -> Sequence[Tensor | None]:
    """The gradient of a part of the sequence put together to the whole."""
    edge = node.edges[0]
    (gradient,) = gradients
    if gradient is None or edge is None:
        return (None,)
    return (tape.empty(edge[2], gradient.dtype, "contiguous backward"),)

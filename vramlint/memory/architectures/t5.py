"""T5: relative position biases, root-mean-square norms, no fused attention (transformers 5.23 models/t5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from vramlint.job import Batch
from vramlint.memory.architectures.family import Config, Network, Outputs, number, probability
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.relative import bias_table
from vramlint.memory.ops.softmax import cross_entropy, mark_logits, softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.weights import Builder, NotFollowedError

SHARED_INTERFACE_FROM = (5, 0)
"""Since then attention is the common eager function; before, mask and bias were one tensor, added in place."""


@dataclass(slots=True)
class Attention:
    """Weights of one attention block."""

    q: Weights
    k: Weights
    v: Weights
    o: Weights
    norm: Parameter


@dataclass(slots=True)
class Layer:
    """Weights of one block; `cross` in the decoder only, `gate` with a gated activation only."""

    attention: Attention
    cross: Attention | None
    up: Weights
    gate: Weights | None
    down: Weights
    norm: Parameter


@dataclass(slots=True)
class Stack:
    """The encoder or the decoder."""

    layers: list[Layer]
    relative: Parameter
    norm: Parameter
    count: int


@dataclass(slots=True)
class Biases:
    """Position biases and masks, which the first block makes for all; self and cross attention."""

    mask: Tensor | None
    cross_mask: Tensor | None = None
    own: Tensor | None = None
    cross: Tensor | None = None


class T5(Network):
    """T5ForConditionalGeneration."""

    embedding: Parameter
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(("t5", "mt5"), ("q", "v"))

    def __init__(self, build: Builder, config: Config) -> None:
        if build.reentrant:
            raise NotFollowedError("a reentrant checkpoint of an encoder-decoder")
        self.checkpointed = build.checkpointed
        self.hidden = number(config, "d_model")
        self.heads = number(config, "num_heads")
        self.width = self.heads * number(config, "d_kv")
        self.inner = number(config, "d_ff")
        self.buckets = number(config, "relative_attention_num_buckets", default=32)
        self.vocabulary = number(config, "vocab_size")
        self.dropout = probability(config, "dropout_rate", default=0.1)
        *gated, kind = str(config.get("feed_forward_proj", "relu")).split("-")
        self.gated = bool(gated)
        self.activation = "gelu_new" if self.gated and kind == "gelu" else kind
        tied = config.get("tie_word_embeddings", True) or build.transformers >= SHARED_INTERFACE_FROM
        self.scaled = bool(config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True)))
        self.embedding = build.parameter("shared.weight", (self.vocabulary, self.hidden))
        count = number(config, "num_layers")
        self.encoder = self._stack(build, "encoder", count, decodes=False)
        self.decoder = self._stack(build, "decoder", number(config, "num_decoder_layers", default=count), decodes=True)
        self.head = (
            build.tied(self.embedding) if tied else build.linear("lm_head", self.hidden, self.vocabulary, head=True)
        )

    def _stack(self, build: Builder, name: str, count: int, *, decodes: bool) -> Stack:
        layers = []
        for position in build.layers(count, stack=int(decodes)):
            layers.append(self._layer(build, f"{name}.block.{position}.layer", decodes=decodes))
        table = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        relative = build.parameter(table, (self.buckets, self.heads))
        return Stack(layers, relative, build.norm(f"{name}.final_layer_norm.weight", self.hidden), count)

    def _layer(self, build: Builder, name: str, *, decodes: bool) -> Layer:
        own = self._attention(build, f"{name}.0", "SelfAttention")
        cross = self._attention(build, f"{name}.1", "EncDecAttention") if decodes else None
        last = f"{name}.{2 if decodes else 1}"
        dense = f"{last}.DenseReluDense"
        up = "wi_0" if self.gated else "wi"
        return Layer(
            own,
            cross,
            up=build.linear(f"{dense}.{up}", self.hidden, self.inner),
            gate=build.linear(f"{dense}.wi_1", self.hidden, self.inner) if self.gated else None,
            down=build.linear(f"{dense}.wo", self.inner, self.hidden),
            norm=build.norm(f"{last}.layer_norm.weight", self.hidden),
        )

    def _attention(self, build: Builder, name: str, block: str) -> Attention:
        return Attention(
            q=build.linear(f"{name}.{block}.q", self.hidden, self.width),
            k=build.linear(f"{name}.{block}.k", self.hidden, self.width),
            v=build.linear(f"{name}.{block}.v", self.hidden, self.width),
            o=build.linear(f"{name}.{block}.o", self.width, self.hidden),
            norm=build.norm(f"{name}.layer_norm.weight", self.hidden),
        )

    def labels(self, batch: Batch) -> Shape:
        """One for every target token."""
        return (batch.micro_batch_size, batch.target_length or batch.sequence_length)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The decoder sees the labels shifted by one and keeps its cache: its config is a copy of the model's."""
        regime = replace(regime, implementation="eager", use_cache=True)
        tokens, labels = batch["input_ids"], batch["labels"]
        words = embedding(tape, tokens, self.embedding)
        encoded = self._run(tape, regime, self.encoder, words, Biases(regime.bidirectional_mask(tape, words)), None)
        del words
        shifted = tape.empty(labels.shape, "int64", "decoder input ids")
        words = embedding(tape, shifted, self.embedding)
        biases = Biases(regime.decoder_mask(tape, words))
        biases.cross_mask = regime.bidirectional_mask(tape, encoded, queries=labels.shape[1])
        hidden = self._run(tape, regime, self.decoder, words, biases, encoded)
        del words, biases
        scaled = e.linear_unary(tape, "mul", hidden) if self.scaled else hidden
        logits = linear(tape, scaled, self.head)
        mark_logits(tape, logits)
        loss = cross_entropy(tape, logits.as_shape((labels.numel, self.vocabulary)), labels)
        return Outputs(loss, [logits, encoded], tape.taken_cache())

    def _run(
        self, tape: Tape, regime: Regime, stack: Stack, words: Tensor, biases: Biases, encoded: Tensor | None
    ) -> Tensor:
        """T5Stack.forward."""
        hidden = e.dropout(tape, words, self.dropout)

        def first(w: Layer, x: Tensor) -> Tensor:
            """The first block makes the biases, and again when it is recomputed, after all blocks that shared them."""
            own = Biases(biases.mask, biases.cross_mask)
            if tape.replays:
                biases.own = biases.cross = None
            x = self._block(tape, regime, stack, w, x, own, encoded)
            if not tape.replays:
                biases.own, biases.cross = own.own, own.cross
            return x

        def later(w: Layer, x: Tensor) -> Tensor:
            return self._block(tape, regime, stack, w, x, biases, encoded)

        def layer(x: Tensor, index: int) -> Tensor:
            block, weights = (later if index else first), stack.layers[index]
            return regime.layer(tape, lambda y: block(weights, y), x)

        hidden = tape.repeat(stack.count, layer, hidden, stack=int(encoded is not None))
        hidden = self._normalise(tape, hidden, stack.norm)
        return e.dropout(tape, hidden, self.dropout)

    def _block(
        self, tape: Tape, regime: Regime, stack: Stack, w: Layer, hidden: Tensor, biases: Biases, encoded: Tensor | None
    ) -> Tensor:
        hidden = self._self_attention(tape, regime, stack, w, hidden, biases, decodes=encoded is not None)
        if w.cross is not None and encoded is not None:
            hidden = self._cross_attention(tape, regime, w.cross, hidden, biases, encoded)
            del tape.held[:-1]
        return self._feed_forward(tape, w, hidden)

    def _self_attention(
        self, tape: Tape, regime: Regime, stack: Stack, w: Layer, hidden: Tensor, biases: Biases, *, decodes: bool
    ) -> Tensor:
        normed = self._normalise(tape, hidden, w.attention.norm)
        q, k, v = self._projected(tape, w.attention, normed, normed, keeps=decodes)
        if biases.own is None:
            biases.own = bias_table(tape, stack.relative, (1, self.heads, q.shape[2], k.shape[2]))
            if regime.transformers < SHARED_INTERFACE_FROM and biases.mask is not None:
                biases.own = e.add(tape, biases.own, biases.mask)
        attended = self._attend(tape, regime, q, k, v, biases.own, biases.mask)
        attended = linear(tape, attended, w.attention.o)
        return e.add(tape, hidden, e.dropout(tape, attended, self.dropout))

    def _cross_attention(
        self, tape: Tape, regime: Regime, w: Attention, hidden: Tensor, biases: Biases, encoded: Tensor
    ) -> Tensor:
        normed = self._normalise(tape, hidden, w.norm)
        q, k, v = self._projected(tape, w, normed, encoded, keeps=True)
        if biases.cross is None:
            biases.cross = self._zeros(tape, (1, self.heads, q.shape[2], k.shape[2]), q.dtype)
            if regime.transformers < SHARED_INTERFACE_FROM and biases.cross_mask is not None:
                if self.checkpointed:
                    tape.held.append(biases.cross)  # the graph of the recomputed block holds its leaf
                biases.cross = e.add(tape, biases.cross, biases.cross_mask)
        attended = self._attend(tape, regime, q, k, v, biases.cross, biases.cross_mask)
        attended = linear(tape, attended, w.o)
        return e.add(tape, hidden, e.dropout(tape, attended, self.dropout))

    def _zeros(self, tape: Tape, shape: Shape, dtype: str) -> Tensor:
        """The bias of cross attention; under checkpointing a leaf that gets a gradient."""
        zeros = tape.empty(shape, dtype, "zeros")
        if not self.checkpointed:
            return zeros
        leaf = Parameter("zeros", shape, dtype, trainable=True, multiplicity=1)
        leaf.storage = zeros.storage
        return leaf

    def _projected(
        self, tape: Tape, w: Attention, normed: Tensor, source: Tensor, *, keeps: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        q = attention.split_heads(tape, linear(tape, normed, w.q), self.heads)
        k = attention.split_heads(tape, linear(tape, source, w.k), self.heads)
        v = attention.split_heads(tape, linear(tape, source, w.v), self.heads)
        if keeps and not self.checkpointed:
            k, v = attention.cached(tape, k, k.dtype), attention.cached(tape, v, k.dtype)
            tape.keep(k)
            tape.keep(v)
        return q, k, v

    def _attend(
        self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None
    ) -> Tensor:
        if regime.transformers < SHARED_INTERFACE_FROM:
            scores = attention.scores(tape, q, k)
            scores = e.add_in_place(tape, scores, bias)
            weights = tape.to(softmax(tape, tape.to(scores, "float32"), in_float32=False), scores.dtype)
        else:
            weights = e.linear_unary(tape, "mul", attention.scores(tape, q, k))
            weights = e.add(tape, weights, bias)
            if mask is not None:
                weights = e.add(tape, weights, mask)
            weights = softmax(tape, weights, in_float32=False)
        weights = e.dropout(tape, weights, self.dropout)
        if regime.transformers >= SHARED_INTERFACE_FROM:
            tape.held.append(weights)  # the block unpacks them into a name of its own
        return attention.merge_heads(tape, attention.weighted(tape, weights, v))

    def _normalise(self, tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
        """T5LayerNorm: no mean is subtracted, the input stays in its own dtype."""
        variance = e.mean_last(tape, e.power(tape, tape.to(x, "float32")))
        hidden = e.mul(tape, x, e.rsqrt(tape, e.add_number(tape, variance)))
        if weight.dtype != "float32":
            hidden = tape.to(hidden, weight.dtype)
        return e.mul(tape, weight, hidden)

    def _feed_forward(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        forwarded = self._normalise(tape, x, w.norm)
        forwarded = self._dense(tape, w, forwarded)
        return e.add(tape, x, e.dropout(tape, forwarded, self.dropout))

    def _dense(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        if w.gate is None:
            return self._down(tape, w, activation(tape, self.activation, linear(tape, x, w.up)))
        activated = activation(tape, self.activation, linear(tape, x, w.up))
        gate = linear(tape, x, w.gate)
        return self._down(tape, w, e.mul(tape, activated, gate))

    def _down(self, tape: Tape, w: Layer, hidden: Tensor) -> Tensor:
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = tape.to(hidden, w.down.weight.dtype)
        return linear(tape, hidden, w.down)

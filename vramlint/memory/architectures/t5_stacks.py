"""T5's stacks: relative position biases, root-mean-square norms (transformers 5.23 models/t5, mt5, umt5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, Network, number, probability
from vramlint.memory.leaves import capture
from vramlint.memory.ops import attention, sdpa
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.relative import bias_mask, bias_table
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Shape, Tensor
from vramlint.memory.weights import Builder

TIED_FROM = (5, 0)
"""Since then every configuration class ties the head to the embedding. A config.json that says it is not comes with a
checkpoint of both weights, which stay two when they are loaded (transformers 5.23 modeling_utils.py, tie_weights)."""
SHARED_INTERFACE_FROM = (5, 15)
"""Since then attention is one of the common functions, sdpa by default, and the decoder follows its own copy of
use_cache; before, bias and mask were one tensor, added in place, and attention always eager."""
COPIED_BIASES_FROM = (5, 20)
"""Since then the mask that is made of a position bias is brought into one piece (integrations/sdpa_attention.py)."""
SHAPE: Config = {"d_model": 512, "d_kv": 64, "num_layers": 6, "num_heads": 8, "d_ff": 2048, "vocab_size": 32128}


class Attention(Struct):
    """Weights of one attention block, with a table of position biases where the block makes them."""

    q: Weights
    k: Weights
    v: Weights
    o: Weights
    norm: Parameter
    relative: Parameter | None


class Layer(Struct):
    """Weights of one block; `cross` in the decoder only, `gate` with a gated activation only."""

    attention: Attention
    cross: Attention | None
    up: Weights
    gate: Weights | None
    down: Weights
    norm: Parameter


class Stack(Struct):
    """The encoder or the decoder."""

    layers: list[Layer]
    norm: Parameter
    count: int
    decodes: bool


class Masks(Struct):
    """Over a stack's own tokens and over the encoder's."""

    own: Tensor | None
    cross: Tensor | None = None


class T5Model(Network):
    """Both stacks below a head."""

    embedding: Parameter
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(("t5", "mt5"), ("q", "v"))
    defaults: ClassVar[Config] = SHAPE
    shares_biases: ClassVar[bool] = True
    """The first block makes the position biases for all others; otherwise every block makes its own."""
    prefix: ClassVar[str] = ""

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        self.checkpointed = build.checkpointed
        self.hidden = number(config, "d_model")
        self.heads = number(config, "num_heads")
        self.width = self.heads * number(config, "d_kv")
        self.inner = number(config, "d_ff")
        self.buckets = number(config, "relative_attention_num_buckets", default=32)
        self.vocabulary = number(config, "vocab_size")
        self.dropout = probability(config, "dropout_rate", default=0.1)
        self.use_cache = config.get("use_cache") is not False
        *gated, kind = str(config.get("feed_forward_proj", "relu")).split("-")
        self.gated = bool(gated)
        self.activation = "gelu_new" if self.gated and kind == "gelu" else kind
        self.embedding = build.parameter(f"{self.prefix}shared.weight", (self.vocabulary, self.hidden))
        count = number(config, "num_layers")
        self.encoder = self._stack(build, f"{self.prefix}encoder", count, decodes=False)
        count = number(config, "num_decoder_layers", default=count)
        self.decoder = self._stack(build, f"{self.prefix}decoder", count, decodes=True)

    def _stack(self, build: Builder, name: str, count: int, *, decodes: bool) -> Stack:
        layers = [
            self._layer(build, f"{name}.block.{position}.layer", first=position == 0, decodes=decodes)
            for position in build.layers(count, stack=int(decodes))
        ]
        return Stack(layers, build.norm(f"{name}.final_layer_norm.weight", self.hidden), count, decodes)

    def _layer(self, build: Builder, name: str, *, first: bool, decodes: bool) -> Layer:
        own = self._attention(build, f"{name}.0", "SelfAttention", makes_bias=first or not self.shares_biases)
        cross = self._attention(build, f"{name}.1", "EncDecAttention", makes_bias=False) if decodes else None
        last = f"{name}.{2 if decodes else 1}"
        dense = f"{last}.DenseReluDense"
        up = "wi_0" if self.gated else "wi"
        return Layer(
            own,
            cross,
            up=build.linear(f"{dense}.{up}", self.hidden, self.inner),
            gate=build.linear(f"{dense}.wi_1", self.hidden, self.inner) if self.gated else None,
            down=build.linear(f"{dense}.wo", self.inner, self.hidden, kept=True),
            norm=build.norm(f"{last}.layer_norm.weight", self.hidden),
        )

    def _attention(self, build: Builder, name: str, block: str, *, makes_bias: bool) -> Attention:
        table = f"{name}.{block}.relative_attention_bias.weight"
        return Attention(
            q=build.linear(f"{name}.{block}.q", self.hidden, self.width),
            k=build.linear(f"{name}.{block}.k", self.hidden, self.width),
            v=build.linear(f"{name}.{block}.v", self.hidden, self.width),
            o=build.linear(f"{name}.{block}.o", self.width, self.hidden),
            relative=build.parameter(table, (self.buckets, self.heads)) if makes_bias else None,
            norm=build.norm(f"{name}.layer_norm.weight", self.hidden),
        )

    # ------------------------------------------------------------------ forward

    def encoded(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        """The encoder's last hidden state for tokens [B, S]."""
        regime = replace(self._regime(regime), use_cache=False)
        words = self._words(tape, regime, tokens)
        masks = Masks(regime.bidirectional_mask(tape, words))
        return self._run(tape, regime, self.encoder, words, masks, None)

    def decoded(self, tape: Tape, regime: Regime, tokens: Tensor, encoded: Tensor) -> Tensor:
        """The decoder's last hidden state for tokens [B, T]."""
        regime = self._regime(regime)
        words = self._words(tape, regime, tokens)
        own = regime.decoder_mask(tape, words)
        masks = Masks(own, regime.bidirectional_mask(tape, encoded, queries=tokens.shape[1]))
        return self._run(tape, regime, self.decoder, words, masks, encoded)

    def _regime(self, regime: Regime) -> Regime:
        """The regime with the attention that there is, and the cache that the decoder keeps."""
        if regime.transformers < SHARED_INTERFACE_FROM:
            return replace(regime, implementation="eager")
        uncheckpointed = regime.checkpointing.mode == "none"
        implementation = "eager" if regime.implementation == "eager" else "sdpa"
        return replace(regime, implementation=implementation, use_cache=self.use_cache and uncheckpointed)

    def _words(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        words = embedding(tape, tokens, self.embedding)
        if regime.inputs_require_grad and not words.requires_grad:
            capture(tape, words, [])
        return words

    def _run(
        self, tape: Tape, regime: Regime, stack: Stack, words: Tensor, masks: Masks, encoded: Tensor | None
    ) -> Tensor:
        """T5Stack.forward."""
        biases: list[Tensor] = []
        keywords = self._keywords(tape, regime, words, masks)

        def layer(x: Tensor, index: int) -> Tensor:
            weights = stack.layers[index]

            def forward(
                hidden: Tensor, mask: Tensor | None, source: Tensor | None, over: Tensor | None, *shared: Tensor
            ) -> tuple[Tensor, ...]:
                if index == 0:
                    biases.clear()  # when it runs again, all blocks that shared them are done
                return self._block(tape, regime, weights, hidden, source, Masks(mask, over or keywords[0]), shared)

            over = masks.cross if self.shares_biases else None
            found = regime.segment(tape, forward, (x, masks.own, encoded, over, *biases))
            biases[:] = found[1:]
            return found[0]

        entering = [e.dropout(tape, words, self.dropout)]
        hidden = tape.course.repeat(stack.count, layer, entering, stack=int(stack.decodes))
        biases.clear()
        hidden = self._normalise(tape, hidden, stack.norm)
        return e.dropout(tape, hidden, self.dropout)

    def _keywords(self, tape: Tape, regime: Regime, words: Tensor, masks: Masks) -> Sequence[Tensor | None]:
        """What blocks get as keyword arguments: UMT5's second mask, and cache positions before transformers 5."""
        order = tape.empty(words.shape[1:2], "int64", "cache positions") if regime.transformers < TIED_FROM else None
        return (None if self.shares_biases else masks.cross, order)

    def _block(
        self,
        tape: Tape,
        regime: Regime,
        w: Layer,
        hidden: Tensor,
        encoded: Tensor | None,
        masks: Masks,
        biases: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """T5Block.forward: the hidden states, and the biases of self and cross attention if blocks share them."""
        known = (*biases, None, None)
        decodes = encoded is not None
        hidden, *own = self._attended(tape, regime, w.attention, hidden, None, masks.own, known[0], decodes=decodes)
        hidden = self._finite(tape, hidden)
        cross: list[Tensor] = []
        if w.cross is not None and encoded is not None:
            hidden, *cross = self._attended(tape, regime, w.cross, hidden, encoded, masks.cross, known[1], decodes=True)
            del tape.held[:-1]
            hidden = self._finite(tape, hidden)
        hidden = self._finite(tape, self._feed_forward(tape, w, hidden))
        return (hidden, *own, *cross)

    def _attended(
        self,
        tape: Tape,
        regime: Regime,
        w: Attention,
        hidden: Tensor,
        source: Tensor | None,
        mask: Tensor | None,
        bias: Tensor | None,
        *,
        decodes: bool,
    ) -> tuple[Tensor, ...]:
        """Self attention, or cross attention over `source`, with its residual; and a position bias that is shared."""
        normed = self._normalise(tape, hidden, w.norm)
        q, k, v = self._projected(tape, w, normed, normed if source is None else source)
        if decodes and regime.use_cache:
            k, v = regime.cached(tape, k, k.dtype), regime.cached(tape, v, k.dtype)
        if bias is None:
            bias = self._bias(tape, regime, w, (1, self.heads, q.shape[2], k.shape[2]), q.dtype, mask)
        causal = decodes and source is None
        attended = linear(tape, self._attend(tape, regime, q, k, v, bias, mask, causal=causal), w.o)
        hidden = e.add(tape, hidden, e.dropout(tape, attended, self.dropout))
        return (hidden, bias) if self.shares_biases else (hidden,)

    def _bias(self, tape: Tape, regime: Regime, w: Attention, shape: Shape, dtype: str, mask: Tensor | None) -> Tensor:
        """The position bias of a block that gets none; before the common interface the mask is a part of it."""
        bias = self._zeros(tape, shape, dtype) if w.relative is None else bias_table(tape, w.relative, shape)
        if regime.transformers >= SHARED_INTERFACE_FROM or mask is None:
            return bias
        if isinstance(bias, Parameter):
            tape.held.append(bias)  # the graph of the recomputed block holds its leaf
        return e.add(tape, bias, mask)

    def _zeros(self, tape: Tape, shape: Shape, dtype: str) -> Tensor:
        """The bias of cross attention; where blocks share it, checkpointing makes it a leaf that gets a gradient."""
        zeros = tape.empty(shape, dtype, "zeros")
        zeros.heads_first = True
        if not (self.checkpointed and self.shares_biases):
            return zeros
        leaf = Parameter("zeros", shape, dtype, trainable=True, multiplicity=1)
        leaf.storage, leaf.heads_first = zeros.storage, True
        return leaf

    def _projected(self, tape: Tape, w: Attention, normed: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = attention.split_heads(tape, linear(tape, normed, w.q), self.heads)
        k = attention.split_heads(tape, linear(tape, source, w.k), self.heads)
        v = attention.split_heads(tape, linear(tape, source, w.v), self.heads)
        return q, k, v

    def _attend(
        self,
        tape: Tape,
        regime: Regime,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        *,
        causal: bool,
    ) -> Tensor:
        if regime.implementation == "sdpa":
            copies = regime.transformers >= COPIED_BIASES_FROM
            bias = bias_mask(tape, bias, mask, causal=causal, copies=copies)
            strided = not bias.heads_first
            out = sdpa.scaled_dot_product(tape, q, k, v, bias, self.dropout, regime.kernels, strided=strided)
            return attention.merge_heads(tape, out)
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

    def _finite(self, tape: Tape, hidden: Tensor) -> Tensor:
        """float16 hidden states are kept below infinity, by bounds that are tensors."""
        if hidden.dtype != "float16":
            return hidden
        bounds = [tape.empty((1,), hidden.dtype, "clamp bound") for _ in ("min", "max")]
        return e.clamp(tape, hidden, bounds)

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
        hidden = activation(tape, self.activation, linear(tape, x, w.up))
        if w.gate is not None:
            activated, gate = hidden, linear(tape, x, w.gate)
            hidden = e.mul(tape, activated, gate)
        hidden = e.dropout(tape, hidden, self.dropout)
        hidden = tape.to(hidden, w.down.weight.dtype)
        return linear(tape, hidden, w.down)

"""ModernBERT: an encoder that rotates, gates and mostly looks around itself (transformers 5.23 models/modernbert)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from msgspec import Struct

from vramlint.memory.architectures.encoder import Encoder, embedded
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING, attention_types
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops import shaping
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.fused_heads import unbound_heads
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate, rotate_in_float32
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

SHARED_ATTENTION_FROM = (5, 1)
"""Since then it attends as other models do; before it compiled its MLPs unless told not to, always made both masks and
had flash attention of its own, over tokens without padding."""
SHARED_TABLES_FROM = (5, 0)
"""Since then rotary tables are made once for each kind of layer, before in every layer anew."""


class Kind(NamedTuple):
    """What tells one layer from another."""

    attention: str
    first: bool
    """The first layer does not normalise what it attends with."""


class Around(NamedTuple):
    """What a layer of some kind attends with."""

    mask: Tensor | None
    position: Rotary | None


class Layer(Struct):
    """Weights of one layer."""

    attention_norm: LayerNorm | None
    qkv: Weights
    o: Weights
    norm: LayerNorm
    up: Weights
    down: Weights


class ModernBert(Encoder):
    """ModernBertModel below a head."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size", default=768)
        self.width = self.hidden
        self.heads = number(config, "num_attention_heads", default=12)
        self.inner = number(config, "intermediate_size", default=1152)
        self.count = number(config, "num_hidden_layers", default=22)
        self.vocabulary = number(config, "vocab_size", default=50368)
        self.activation = str(config.get("hidden_activation", "gelu"))
        self.dropout = probability(config, "mlp_dropout", default=0.0)
        self.embedding_dropout = probability(config, "embedding_dropout", default=0.0)
        self.attention_dropout = probability(config, "attention_dropout", default=0.0)
        self.classifier_dropout = probability(config, "classifier_dropout", default=0.0)
        self.window = number(config, "local_attention", default=128) // 2
        self.normal_bias = bool(config.get("norm_bias", False))
        self.shares_attention = build.transformers >= SHARED_ATTENTION_FROM
        self.shares_tables = build.transformers >= SHARED_TABLES_FROM
        if not self.shares_attention:
            _refuse_older(build, config)
        period = number(config, "global_attn_every_n_layers", default=3)
        types = attention_types(config, self.count, lambda index: index % period > 0)
        self.kinds = [Kind(kind, index == 0) for index, kind in enumerate(types)]
        table = "model.embeddings"
        self.embedding = build.parameter(f"{table}.tok_embeddings.weight", (self.vocabulary, self.hidden))
        self.embedding_norm = self._norm(build, f"{table}.norm")
        traced = [(self.kinds[at], self._layer(build, config, at)) for at in build.layers(self.kinds)]
        self.traced, self.layers = [kind for kind, _ in traced], [layer for _, layer in traced]
        self.final_norm = self._norm(build, "model.final_norm")
        if self.shares_tables:
            for _ in {*types}:
                self._frequencies(build)
                self._frequencies(build)
        self._head(build, config)

    def _frequencies(self, build: Builder) -> None:
        build.buffer(4 * (self.hidden // self.heads // 2))

    def _norm(self, build: Builder, name: str) -> LayerNorm:
        return LayerNorm.of(build, name, self.hidden, bias=self.normal_bias)

    def _layer(self, build: Builder, config: Config, position: int) -> Layer:
        size, name = self.hidden, f"model.layers.{position}"
        attends, feeds = bool(config.get("attention_bias", False)), bool(config.get("mlp_bias", False))
        if not self.shares_tables:
            self._frequencies(build)
        return Layer(
            attention_norm=self._norm(build, f"{name}.attn_norm") if position else None,
            qkv=build.linear(f"{name}.attn.Wqkv", size, 3 * size, bias=attends),
            o=build.linear(f"{name}.attn.Wo", size, size, bias=attends),
            norm=self._norm(build, f"{name}.mlp_norm"),
            up=build.linear(f"{name}.mlp.Wi", size, 2 * self.inner, bias=feeds),
            down=build.linear(f"{name}.mlp.Wo", self.inner, size, bias=feeds),
        )

    # ------------------------------------------------------------------ forward

    def last_hidden_state(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Tensor:
        """ModernBertModel.forward."""
        tokens = batch["input_ids"]
        if not self.shares_attention:
            around = self._older_masks(tape, tokens)
            return self.final_norm(tape, self._run(tape, regime, [self._embed(tape, regime, tokens)], around))
        hidden = self._embed(tape, regime, tokens)  # the arguments of its masks keep the embeddings
        around = self._around(tape, regime, hidden)
        return self.final_norm(tape, self._run(tape, regime, [hidden], around))

    def _embed(self, tape: Tape, regime: Regime, tokens: Tensor) -> Tensor:
        words = embedded(tape, regime, embedding(tape, tokens, self.embedding))
        return e.dropout(tape, self.embedding_norm(tape, words), self.embedding_dropout)

    def _run(self, tape: Tape, regime: Regime, entering: list[Tensor], around: Mapping[str, Around]) -> Tensor:
        """The layers over the one tensor in `entering`, which is handed over."""

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]
            own = around[self.traced[index].attention]
            return regime.layer(tape, lambda y: self._forward(tape, regime, weights, y, own), x)

        return tape.course.repeat(self.kinds, layer, entering)

    def _older_masks(self, tape: Tape, tokens: Tensor) -> Mapping[str, Around]:
        batch, length = tokens.shape
        shape, dtype = (batch, 1, length, length), self.embedding.dtype
        masks = {kind: tape.empty(shape, dtype, "attention mask") for kind in (FULL, SLIDING)}
        if not self.shares_tables:
            return {kind: Around(mask, None) for kind, mask in masks.items()}
        like = Tensor((batch, length, self.hidden), "float32" if tape.autocast else dtype, None)
        size = self.hidden // self.heads
        return {kind: Around(mask, rotary(tape, like, size)) for kind, mask in masks.items()}

    def _around(self, tape: Tape, regime: Regime, hidden: Tensor) -> Mapping[str, Around]:
        masks = {FULL: regime.bidirectional_mask(tape, hidden), SLIDING: self._window_mask(tape, regime, hidden)}
        present, size = dict.fromkeys([kind.attention for kind in self.kinds]), self.hidden // self.heads
        return {kind: Around(masks[kind], rotary(tape, hidden, size)) for kind in present}

    def _window_mask(self, tape: Tape, regime: Regime, hidden: Tensor) -> Tensor | None:
        """create_bidirectional_sliding_window_mask: none where the window holds all tokens."""
        batch, length = hidden.shape[:2]
        if length < self.window or regime.implementation not in ("eager", "sdpa"):
            return regime.bidirectional_mask(tape, hidden)
        shape = (batch, 1, length, length)
        if regime.implementation == "eager":
            return tape.empty(shape, hidden.dtype, "attention mask")
        rows = batch if regime.attention_mask else 1
        return tape.empty((rows, 1, length, length), "bool", "attention mask").as_shape(shape)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, around: Around) -> Tensor:
        normed = hidden if w.attention_norm is None else w.attention_norm(tape, hidden)
        attended = self._attention(tape, regime, w, normed, around)
        del normed
        hidden = e.add(tape, hidden, attended)
        return e.add(tape, hidden, self._feed_forward(tape, w, w.norm(tape, hidden)))

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, around: Around) -> Tensor:
        qkv = linear(tape, hidden, w.qkv)
        mask, position = around
        if position is None:
            position = rotary(tape, qkv, self.hidden // self.heads)
        q, k, v = unbound_heads(tape, qkv, self.heads, heads_first=not self.shares_attention)
        if self.shares_attention:
            q, k = rotate_in_float32(tape, q, k, position)
        else:
            q, k = rotate(tape, q, position), rotate(tape, k, position)
        attended = regime.attend(tape, q, k, v, mask, self.attention_dropout, widens=not self.shares_attention)
        del qkv, q, k, v
        return e.dropout(tape, linear(tape, attended, w.o), self.attention_dropout)

    def _feed_forward(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        both = linear(tape, x, w.up)
        value, gate = shaping.split_last(tape, both, (self.inner, self.inner))
        gated = e.mul(tape, activation(tape, self.activation, value), gate)
        return linear(tape, e.dropout(tape, gated, self.dropout), w.down)


def _refuse_older(build: Builder, config: Config) -> None:
    if config.get("reference_compile") is not False:
        raise NotFollowedError("ModernBERT before transformers 5.1, which compiles its MLPs unless told not to,")
    if build.implementation not in ("eager", "sdpa"):
        raise NotFollowedError("flash attention of ModernBERT before transformers 5.1")

"""The towers of dual encoders: CLIP's image and text model (transformers 5.23 models/clip)."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.vision import LLAMA_NAMES_FROM, Patches
from vramlint.memory.leaves import capture
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

IMAGES, TEXTS = 0, 1
"""The towers' stacks of layers."""


class Layer(Struct):
    """Weights of one layer of either tower."""

    attention_norm: LayerNorm
    q: Weights
    k: Weights
    v: Weights
    o: Weights
    output_norm: LayerNorm
    up: Weights
    down: Weights


class Tower(Struct):
    """CLIPEncoder or SiglipEncoder: one stack of pre-norm layers."""

    stack: int
    size: int
    heads: int
    count: int
    activation: str
    dropout: float
    frees_weights: bool
    """Eager attention drops its weights where nobody asked for them."""
    layers: list[Layer]

    @classmethod
    def of(cls, build: Builder, config: Config, name: str, stack: int, *, frees_weights: bool) -> Tower:
        """Build `name.layers` from the tower's own config, whose defaults the caller has filled in."""
        size, inner = number(config, "hidden_size"), number(config, "intermediate_size")
        count = number(config, "num_hidden_layers")
        return cls(
            stack=stack,
            size=size,
            heads=number(config, "num_attention_heads"),
            count=count,
            activation=str(config["hidden_act"]),
            dropout=probability(config, "attention_dropout"),
            frees_weights=frees_weights,
            layers=[
                _layer(build, f"{name}.layers.{position}", size, inner) for position in build.layers(count, stack=stack)
            ],
        )

    def __call__(
        self, tape: Tape, regime: Regime, hidden: Tensor, mask: Tensor | None, causal: Tensor | None = None
    ) -> Tensor:
        """From embeddings [B, S, H] to the last layer's states; every layer adds `causal` to `mask`."""

        def layer(x: Tensor, index: int) -> Tensor:
            weights = self.layers[index]

            def forward(y: Tensor, mask: Tensor | None, causal: Tensor | None) -> Tensor:
                return self._forward(tape, regime, weights, y, mask, causal)

            return regime.layer(tape, forward, x, mask, causal)

        return tape.course.repeat(self.count, layer, [hidden], stack=self.stack)

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None, causal: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = w.attention_norm(tape, hidden)
        hidden = self._attention(tape, regime, w, hidden, mask, causal)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = w.output_norm(tape, hidden)
        hidden = self._mlp(tape, w, hidden)
        return e.add(tape, residual, hidden)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None, causal: Tensor | None
    ) -> Tensor:
        q, k, v = (attention.split_heads(tape, linear(tape, hidden, part), self.heads) for part in (w.q, w.k, w.v))
        if mask is not None and causal is not None:
            mask = e.add(tape, mask, causal)
        out = regime.attend(tape, q, k, v, causal if mask is None else mask, self.dropout)
        if self.frees_weights:
            tape.held.clear()
        return linear(tape, out, w.o)

    def _mlp(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        x = linear(tape, x, w.up)
        x = activation(tape, self.activation, x)
        return linear(tape, x, w.down)


def _layer(build: Builder, name: str, size: int, inner: int) -> Layer:
    return Layer(
        k=build.linear(f"{name}.self_attn.k_proj", size, size, bias=True),
        v=build.linear(f"{name}.self_attn.v_proj", size, size, bias=True),
        q=build.linear(f"{name}.self_attn.q_proj", size, size, bias=True),
        o=build.linear(f"{name}.self_attn.out_proj", size, size, bias=True),
        attention_norm=LayerNorm.of(build, f"{name}.layer_norm1", size),
        up=build.linear(f"{name}.mlp.fc1", size, inner, bias=True),
        down=build.linear(f"{name}.mlp.fc2", inner, size, bias=True),
        output_norm=LayerNorm.of(build, f"{name}.layer_norm2", size),
    )


class ImageTower:
    """CLIPVisionModel."""

    defaults: ClassVar[Config] = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
    }
    patch: ClassVar[int] = 32
    class_token: ClassVar[bool] = True
    frees_weights: ClassVar[bool] = True
    """Whether eager attention, before transformers 5, dropped its weights where nobody asked for them."""

    def __init__(self, build: Builder, config: Config) -> None:
        own = {**self.defaults, **config}
        table = "vision_model.embeddings"
        size = number(own, "hidden_size")
        self.first = build.parameter(f"{table}.class_embedding", (size,)) if self.class_token else None
        self.patches = Patches.of(build, own, f"{table}.patch_embedding", size, self.patch, bias=not self.class_token)
        self.length = self.patches.count + self.class_token
        self.positions = build.parameter(f"{table}.position_embedding.weight", (self.length, size))
        build.buffer(8 * self.length)
        frees = self.frees_weights and build.transformers < LLAMA_NAMES_FROM
        self.encoder = Tower.of(build, own, "vision_model.encoder", IMAGES, frees_weights=frees)
        self._head(build, own)

    def _head(self, build: Builder, config: Config) -> None:
        size = self.encoder.size
        self.pre_norm = LayerNorm.of(build, "vision_model.pre_layrnorm", size)
        self.post_norm = LayerNorm.of(build, "vision_model.post_layernorm", size)

    def embed(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        """Patches behind the class token, with positions."""
        hidden = self.patches(tape, regime, pixels)
        batch, _, size = hidden.shape
        if self.first is not None:
            first = shaping.viewed(tape, self.first, (1, 1, size))
            hidden = shaping.concatenate(tape, (first, hidden), (batch, self.length, size))
        indices = Tensor((1, self.length), "int64", None)  # a buffer
        return e.add(tape, hidden, embedding(tape, indices, self.positions))

    def states(self, tape: Tape, regime: Regime, pixels: Tensor) -> Tensor:
        """The last layer's states."""
        hidden = self.embed(tape, regime, pixels)
        hidden = self.pre_norm(tape, hidden)
        return self.encoder(tape, regime, hidden, None)

    def pooled(self, tape: Tape, regime: Regime, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The class token's normalised state, and all states, which the output holds."""
        hidden = self.states(tape, regime, pixels)
        first = shaping.part(tape, hidden, (hidden.shape[0], hidden.shape[2]))
        return self.post_norm(tape, first), hidden


class TextTower:
    """CLIPTextModel."""

    defaults: ClassVar[Config] = {
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
    }
    frees_weights: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        own = {**self.defaults, **config}
        table = "text_model.embeddings"
        size, limit = number(own, "hidden_size"), number(own, "max_position_embeddings")
        self.embedding = build.parameter(f"{table}.token_embedding.weight", (number(own, "vocab_size"), size))
        self.positions = build.parameter(f"{table}.position_embedding.weight", (limit, size))
        build.buffer(8 * limit)
        frees = self.frees_weights and build.transformers < LLAMA_NAMES_FROM
        self.encoder = Tower.of(build, own, "text_model.encoder", TEXTS, frees_weights=frees)
        self.norm = LayerNorm.of(build, "text_model.final_layer_norm", size)
        self._head(build, own)

    def _head(self, build: Builder, config: Config) -> None:
        """Build what pools the states."""

    def pooled(self, tape: Tape, regime: Regime, tokens: Tensor, *, masked: bool) -> tuple[Tensor, Tensor]:
        """One state of each text, and all states, which the output holds."""
        words = embedding(tape, tokens, self.embedding)
        if regime.inputs_require_grad and not words.requires_grad:
            capture(tape, words, [])
        indices = Tensor((1, tokens.shape[1]), "int64", None)  # a view of a buffer
        embedded = e.add(tape, words, embedding(tape, indices, self.positions))
        del words
        mask, causal = self._masks(tape, regime, embedded, masked=masked)
        hidden = self.encoder(tape, regime, embedded, mask, causal)
        hidden = self.norm(tape, hidden)
        pooled = self._pool(tape, hidden)
        del mask, causal, embedded
        return pooled, hidden

    def _pool(self, tape: Tape, hidden: Tensor) -> Tensor:
        """The state at the end-of-text token."""
        batch, _, size = hidden.shape
        rows = tape.empty((batch,), "int64", "arange")
        last = tape.empty((batch,), "int64", "argmax")
        return shaping.index(tape, hidden, (batch, size), (rows, last))

    def _masks(
        self, tape: Tape, regime: Regime, hidden: Tensor, *, masked: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """The causal mask; before transformers 5 the padding mask whatever it says, and a causal one for all texts."""
        if regime.transformers >= LLAMA_NAMES_FROM or regime.implementation not in ("eager", "sdpa"):
            return replace(regime, attention_mask=masked).mask(tape, hidden, None), None
        batch, length, _ = hidden.shape
        shape = (batch, 1, length, length)
        causal = tape.empty((length, length), hidden.dtype, "causal mask").as_shape(shape)
        return (tape.empty(shape, hidden.dtype, "attention mask") if masked else None), causal

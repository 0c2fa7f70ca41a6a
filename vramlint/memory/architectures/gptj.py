"""GPT-J: attention and MLP side by side, rotary positions on a part of each head (transformers 5.23 models/gptj)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.weight_outputs import Blocks
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary, repeated, rotate
from vramlint.memory.ops.wide_attention import Scoring, attend
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

OWN_MASKS_UNTIL = (5, 0)
"""Before this version of transformers the model built its mask itself."""


class Layer(Struct):
    """Weights of one block."""

    ln_1: LayerNorm
    projections: tuple[Weights, ...]
    """Queries, keys and values, together or apart."""
    o: Weights
    up: Weights
    down: Weights


class GPTJ(CausalLM):
    """GPTJForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gptj": ("q_proj", "v_proj")}
    widens_logits: ClassVar[bool] = True
    own_loss_until: tuple[int, ...] = (4, 48)
    widens_logits_until: ClassVar[tuple[int, ...]] = (5, 0)

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "n_embd", "hidden_size", default=4096)
        self.heads = number(config, "n_head", "num_attention_heads", default=16)
        self.head_size = self.hidden // self.heads
        self.count = number(config, "n_layer", "num_hidden_layers", default=28)
        if config.get("rotary_dim", 64) is None:
            raise NotFollowedError("a rotary_dim of None")
        self.rotated = number(config, "rotary_dim", default=64)
        self.scoring = self._scoring(build)
        self.attention_dropout = probability(config, "attn_pdrop")
        self.residual_dropout = probability(config, "resid_pdrop")
        self.embedding_dropout = probability(config, "embd_pdrop")
        self.activation = str(config.get("activation_function", "gelu_new"))
        self.positions = number(config, "n_positions", "max_position_embeddings", default=2048)
        vocabulary = number(config, "vocab_size", default=50400)
        inner = number(config, "n_inner", default=4 * self.hidden)
        self.embedding = build.parameter("transformer.wte.weight", (vocabulary, self.hidden))
        self.layers: list[Layer] = []
        for position in build.layers(self.count):
            build.buffer(4 * self.positions * self.rotated)
            self.layers.append(self._layer(build, inner, f"transformer.h.{position}"))
        self.norm = LayerNorm.of(build, "transformer.ln_f", self.hidden)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=False, bias=True)

    def _scoring(self, build: Builder) -> Scoring:
        return Scoring()

    def _layer(self, build: Builder, inner: int, name: str) -> Layer:
        return Layer(
            ln_1=LayerNorm.of(build, f"{name}.ln_1", self.hidden),
            projections=self._projections(build, f"{name}.attn"),
            o=build.linear(f"{name}.attn.out_proj", self.hidden, self.hidden),
            up=build.linear(f"{name}.mlp.fc_in", self.hidden, inner, bias=True),
            down=build.linear(f"{name}.mlp.fc_out", inner, self.hidden, bias=True),
        )

    def _projections(self, build: Builder, name: str) -> tuple[Weights, ...]:
        k, v, q = (build.linear(f"{name}.{part}_proj", self.hidden, self.hidden) for part in "kvq")
        return q, k, v

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """GPTJModel.forward."""
        order = tape.empty((1, embedded.shape[1]), "int64", "position ids")
        regime = regime.without_sdpa()
        own = regime.transformers < OWN_MASKS_UNTIL
        mask = regime.unshared_mask(tape, embedded) if own else regime.mask(tape, embedded, None)
        entering = [e.dropout(tape, embedded, self.embedding_dropout)]
        blocks = Blocks(order)

        def block(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return self._forward(tape, regime, self.layers[index], hidden, mask)

        hidden = blocks(tape, regime, self.count, block, entering)
        return self.norm(tape, hidden)

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        residual = hidden
        hidden = w.ln_1(tape, hidden)
        attended, weights = self._attention(tape, regime, w, hidden, mask)
        fed = linear(tape, activation(tape, self.activation, linear(tape, hidden, w.up)), w.down)
        fed = e.dropout(tape, fed, self.residual_dropout)
        return e.add(tape, e.add(tape, attended, fed), residual), weights

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        q, k, v, _named = self._projected(tape, w, hidden)
        position, _tables = self._position(tape, hidden.shape[1], k.dtype)
        # names for the parts keep them, and what they are parts of, until the end
        k_rotated, k_rest = self._parts(tape, k)
        q_rotated, q_rest = self._parts(tape, q)
        k_rotated = rotate(tape, k_rotated, repeated(tape, position))
        q_rotated = rotate(tape, q_rotated, repeated(tape, position))
        k = shaping.concatenate(tape, (k_rotated, k_rest), k.shape)
        q = shaping.concatenate(tape, (q_rotated, q_rest), q.shape)
        k, q = self._by_head(tape, k), self._by_head(tape, q)
        if regime.use_cache:
            k, v = self._cached(tape, regime, k, v, hidden.dtype)
        if regime.implementation == "eager":
            out, weights = attend(tape, q, k, v, mask, self.attention_dropout, self.scoring)
            out = attention.merge_heads(tape, out)
        else:
            out = weights = replace(regime, use_cache=False).attend(tape, q, k, v, None, self.attention_dropout)
        out = linear(tape, out, w.o)
        return e.dropout(tape, out, self.residual_dropout), weights

    def _projected(self, tape: Tape, w: Layer, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, object]:
        """Queries and keys [B, S, heads, d], which rotate so, values [B, heads, S, d], and what the layer names too."""
        q, k, v = (linear(tape, hidden, weights) for weights in w.projections)
        shape = (*hidden.shape[:2], self.heads, self.head_size)
        q, k = (shaping.viewed(tape, x, shape) for x in (q, k))
        return q, k, attention.split_heads(tape, v, self.heads), None

    def _position(self, tape: Tape, length: int, dtype: str) -> tuple[Rotary, object]:
        """Half of the tables, and what the layer made on the way and names until it returns."""
        table = tape.empty((1, self.positions, self.rotated), "float32", "rotary table")
        ids = tape.empty((1, length, self.rotated), "int64", "rotary ids")
        sincos = tape.to(tape.empty((1, length, self.rotated), "float32", "rotary sincos"), dtype)
        half = sincos.as_shape((1, length, 1, self.rotated))
        return Rotary(half, half), (table, ids)

    def _parts(self, tape: Tape, x: Tensor) -> tuple[Tensor, Tensor]:
        """What rotates and what does not."""
        return shaping.slice_last(tape, x, self.rotated), shaping.slice_last(tape, x, self.head_size - self.rotated)

    def _by_head(self, tape: Tape, x: Tensor) -> Tensor:
        batch, length, heads, size = x.shape
        return shaping.viewed(tape, x, (batch, heads, length, size))

    def _cached(self, tape: Tape, regime: Regime, k: Tensor, v: Tensor, dtype: str) -> tuple[Tensor, Tensor]:
        return regime.cached(tape, k, k.dtype), regime.cached(tape, v, k.dtype)

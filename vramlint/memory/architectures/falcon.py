"""Falcon: multi-query or grouped fused qkv, parallel attention (transformers 5.23 models/falcon)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.weight_outputs import Blocks
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary, rotary, rotate
from vramlint.memory.ops.softmax import softmax_as
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

SHARED_MASKS_FROM = (5, 0)
"""Since then the model asks for a mask as others do, but one that is never skipped."""


class Layer(Struct):
    """Weights of one decoder layer; `second_norm` stands before the MLP, None where both branches share a norm."""

    qkv: Weights
    dense: Weights
    up: Weights
    down: Weights
    norm: LayerNorm
    second_norm: LayerNorm | None


class Shared(Struct, frozen=True):
    """What all layers use."""

    mask: Tensor | None
    position: Rotary
    alibi: Tensor | None


class Falcon(CausalLM):
    """FalconForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"falcon": ("query_key_value",)}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 48)

    def __init__(self, build: Builder, config: Config) -> None:
        self.alibi = bool(config.get("alibi", False))
        if self.alibi and build.implementation not in ("eager", "sdpa"):
            raise NotFollowedError("flash attention with alibi")
        self.hidden = number(config, "hidden_size", "n_embed")
        self.heads = number(config, "num_attention_heads", "n_head")
        self.head_size = self.hidden // self.heads
        self.count = number(config, "num_hidden_layers", "n_layer")
        self.inner = number(config, "ffn_hidden_size", default=4 * self.hidden)
        self.grouped = bool(config.get("new_decoder_architecture", False))
        self.parallel = bool(config.get("parallel_attn", True)) or self.grouped
        multi_query = bool(config.get("multi_query", True))
        stated = number(config, "num_kv_heads", "n_head_kv", default=self.heads)
        self.kv_heads = stated if self.grouped else 1 if multi_query else self.heads
        self.norms = number(config, "num_ln_in_parallel_attn", default=2) if self.grouped else 1
        self.bias = bool(config.get("bias", False))
        self.activation = str(config.get("activation", "gelu"))
        self.attention_dropout = probability(config, "attention_dropout")
        self.hidden_dropout = probability(config, "hidden_dropout")
        vocabulary = number(config, "vocab_size")
        build.buffer(4 * self.head_size // 2)
        build.buffer(4 * self.head_size // 2)
        self.embedding = build.parameter("transformer.word_embeddings.weight", (vocabulary, self.hidden))
        self.layers = [self._layer(build, f"transformer.h.{position}") for position in build.layers(self.count)]
        self.norm = LayerNorm.of(build, "transformer.ln_f", self.hidden)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=True)

    def _layer(self, build: Builder, name: str) -> Layer:
        first, second = ("ln_attn", "ln_mlp") if self.norms == 2 else ("input_layernorm", "post_attention_layernorm")
        width = (self.heads + 2 * self.kv_heads) * self.head_size

        def falcon_linear(part: str, n_in: int, n_out: int) -> Weights:
            weights = build.linear(f"{name}.{part}", n_in, n_out, bias=self.bias)
            weights.plain = True
            return weights

        two = self.norms == 2 or not self.parallel
        return Layer(
            qkv=falcon_linear("self_attention.query_key_value", self.hidden, width),
            dense=falcon_linear("self_attention.dense", self.hidden, self.hidden),
            up=falcon_linear("mlp.dense_h_to_4h", self.hidden, self.inner),
            down=falcon_linear("mlp.dense_4h_to_h", self.inner, self.hidden),
            norm=LayerNorm.of(build, f"{name}.{first}", self.hidden),
            second_norm=LayerNorm.of(build, f"{name}.{second}", self.hidden) if two else None,
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """FalconModel.forward."""
        batch, length = embedded.shape[:2]
        order = tape.empty((1, length), "int64", "position ids")
        alibi = tape.empty((batch * self.heads, 1, length), embedded.dtype, "alibi") if self.alibi else None
        shared = Shared(self._mask(tape, regime, embedded), rotary(tape, embedded, self.head_size), alibi)
        blocks = Blocks(order)

        def block(index: int, hidden: Tensor) -> tuple[Tensor, ...]:
            return self._forward(tape, regime, self.layers[index], hidden, shared)

        hidden = blocks(tape, regime, self.count, block, [embedded])
        return self.norm(tape, hidden)

    def _mask(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor | None:
        """The causal mask, with alibi in one tensor for every head."""
        batch, length = embedded.shape[:2]
        if self.alibi:
            mask = tape.empty((batch, self.heads, length, length), embedded.dtype, "attention mask")
            own = regime.transformers < SHARED_MASKS_FROM
            if own and regime.implementation == "sdpa" and regime.attention_mask:
                # AttentionMaskConverter._unmask_unattended: rows of padding are compared, then multiplied
                tape.scratch((mask.numel,), "unattended rows")
                rows = tape.empty((batch, self.heads, length, 1), "bool", "unattended rows")
                mask = e.like(tape, mask, "attention mask")
                del rows
            return mask
        if regime.transformers < SHARED_MASKS_FROM:
            return regime.unshared_mask(tape, embedded)
        return regime.mask(tape, embedded, None, always=True)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, shared: Shared) -> tuple[Tensor, ...]:
        residual = hidden
        normed = w.norm(tape, hidden)
        before_mlp = w.second_norm(tape, hidden) if self.parallel and w.second_norm is not None else normed
        attended, *weights = self._attention(tape, regime, w, normed, shared)
        if not self.parallel and w.second_norm is not None:
            residual = e.add(tape, residual, e.dropout(tape, attended, self.attention_dropout))
            before_mlp = w.second_norm(tape, residual)
        fed = linear(tape, activation(tape, self.activation, linear(tape, before_mlp, w.up)), w.down)
        if self.parallel:
            fed = e.add_in_place(tape, fed, attended)
        return e.add(tape, residual, e.dropout(tape, fed, self.hidden_dropout)), *weights

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, shared: Shared) -> tuple[Tensor, ...]:
        """The output, and the probabilities of eager attention."""
        fused_qkv = linear(tape, hidden, w.qkv)
        q, k, v = self._split_heads(tape, fused_qkv)
        if not self.alibi:
            q, k = rotate(tape, q, shared.position), rotate(tape, k, shared.position)
        if regime.implementation == "eager":
            if regime.use_cache:
                k, v = regime.cached(tape, k, k.dtype), regime.cached(tape, v, k.dtype)
            out, weights = self._eager(tape, q, k, v, shared, hidden.dtype)
            return linear(tape, attention.merge_heads(tape, out), w.dense), weights
        if shared.mask is not None and regime.transformers < SHARED_MASKS_FROM and regime.implementation == "sdpa":
            q, k, v = (attention.contiguous(tape, x) for x in (q, k, v))
        dropout = self.attention_dropout if self.alibi else 0.0
        return (linear(tape, regime.attend(tape, q, k, v, shared.mask, dropout, shares_heads=True), w.dense),)

    def _eager(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor, shared: Shared, dtype: str) -> tuple[Tensor, Tensor]:
        """Softmax in the dtype of the layer's states; dropout with alibi only. Products expand a single head."""
        k, v = (attention.repeat_heads(tape, x, self.heads // x.shape[1]) for x in (k, v))
        scores = attention.scores(tape, q, k)
        if shared.alibi is None or shared.mask is None:
            scores = e.scale_in_place(tape, scores)
            masked = scores if shared.mask is None else e.add(tape, scores, shared.mask)
            weights = softmax_as(tape, masked, dtype)
            del scores, masked
            return attention.weighted(tape, weights, v), weights
        wide = tape.to(scores, "float32")
        alibi = shared.alibi.as_shape((q.shape[0], self.heads, 1, k.shape[2]))
        logits = e.scale_in_place(tape, e.add(tape, wide, alibi))
        weights = softmax_as(tape, e.add(tape, logits, shared.mask), dtype)
        weights = e.dropout(tape, weights, self.attention_dropout)
        return attention.weighted(tape, weights, v), weights

    def _split_heads(self, tape: Tape, fused_qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The grouped layout is copied, keys and values once for every query head; the other layouts are viewed."""
        batch, length = fused_qkv.shape[:2]
        queries = (batch, self.heads, length, self.head_size)
        keys = (batch, self.kv_heads, length, self.head_size)
        if self.grouped:
            q = e.clone(tape, shaping.part(tape, fused_qkv, queries))
            k, v = (shaping.index(tape, fused_qkv, keys) for _ in "kv")
            k, v = (attention.broadcast_heads(tape, x, self.heads) for x in (k, v))
            return q, k, v
        q = shaping.part(tape, fused_qkv, queries)
        if self.kv_heads == self.heads:
            return q, shaping.part(tape, fused_qkv, keys), shaping.part(tape, fused_qkv, keys)
        return q, shaping.index(tape, fused_qkv, keys), shaping.index(tape, fused_qkv, keys)

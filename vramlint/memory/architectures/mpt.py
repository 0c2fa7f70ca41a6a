"""MPT: alibi, no biases; attention is eager in transformers, flash in llm-foundry, whose class the weights are from.

transformers 5.23 models/mpt; llm-foundry 0.22 llmfoundry/models/layers/attention.py, flash_attn_fn.
"""

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
from vramlint.memory.ops.indexing import masked_fill
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.softmax import softmax
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

EXPANSION = 4
"""The MLP's inner width over the model's; the class reads no `expansion_ratio`."""


_FLASH = ("flash", "triton")
"""`attn_config.attn_impl` of llm-foundry whose kernels write no scores out; transformers' class knows `torch` alone."""


class Layer(Struct):
    """Weights of one block."""

    norm_1: LayerNorm
    qkv: Weights
    o: Weights
    norm_2: LayerNorm
    up: Weights
    down: Weights


class Biases(Struct, frozen=True):
    """What the body makes for all blocks."""

    alibi: Tensor
    """For the longest sequence."""
    mask: Tensor


class Mpt(CausalLM):
    """MptForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"mpt": ("Wqkv",)}
    widens_logits: ClassVar[bool] = False
    own_loss_until: tuple[int, ...] = (4, 48)

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "d_model", "hidden_size", default=2048)
        self.heads = number(config, "n_heads", "num_attention_heads", default=16)
        self.count = number(config, "n_layers", "num_hidden_layers", default=24)
        self.longest = number(config, "max_seq_len", default=2048)
        settings = config.get("attn_config")
        settings = settings if isinstance(settings, Mapping) else {}
        self.dropout = probability(settings, "attn_pdrop")
        self.flash = settings.get("attn_impl") in _FLASH
        self.clips = bool(settings.get("clip_qkv"))
        vocabulary = number(config, "vocab_size", default=50368)
        self.embedding = build.parameter("transformer.wte.weight", (vocabulary, self.hidden))
        self.layers = [self._layer(build, f"transformer.blocks.{position}") for position in build.layers(self.count)]
        self.norm = LayerNorm.of(build, "transformer.norm_f", self.hidden, bias=False)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=True)

    def _layer(self, build: Builder, name: str) -> Layer:
        size = self.hidden
        return Layer(
            norm_1=LayerNorm.of(build, f"{name}.norm_1", size, bias=False),
            qkv=build.linear(f"{name}.attn.Wqkv", size, 3 * size),
            o=build.linear(f"{name}.attn.out_proj", size, size),
            norm_2=LayerNorm.of(build, f"{name}.norm_2", size, bias=False),
            up=build.linear(f"{name}.ffn.up_proj", size, EXPANSION * size),
            down=build.linear(f"{name}.ffn.down_proj", EXPANSION * size, size),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """MptModel.forward."""
        batch, length = embedded.shape[:2]
        alibi = tape.empty((self.heads, 1, self.longest), "float32", "alibi")
        seen = (batch, length) if self.flash else (batch, 1, length, length)
        biases = Biases(alibi, tape.empty(seen, "bool", "attention mask"))
        blocks = Blocks()

        def block(index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return self._forward(tape, regime, self.layers[index], hidden, biases)

        hidden = blocks(tape, regime, self.count, block, [embedded])
        return self.norm(tape, hidden)

    def _forward(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, biases: Biases) -> tuple[Tensor, Tensor]:
        normed = w.norm_1(tape, hidden)
        residual = hidden
        attended, weights = self._attention(tape, regime, w, normed, biases)
        hidden = e.add(tape, e.dropout(tape, attended, self.dropout), residual)
        normed = w.norm_2(tape, hidden)
        residual = hidden
        return self._mlp(tape, w, normed, residual), weights

    def _mlp(self, tape: Tape, w: Layer, hidden: Tensor, residual: Tensor) -> Tensor:
        hidden = activation(tape, "gelu", linear(tape, hidden, w.up))
        fed = linear(tape, hidden, w.down)
        output = e.dropout(tape, fed, self.dropout)
        return e.add(tape, output, residual)

    def _attention(self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, biases: Biases) -> tuple[Tensor, Tensor]:
        mixed = linear(tape, hidden, w.qkv)
        if self.clips:
            mixed = e.clamp(tape, mixed)
        q, k, v = (
            attention.split_heads(tape, part, self.heads)
            for part in shaping.split_last(tape, mixed, (self.hidden,) * 3)
        )
        if regime.use_cache:
            k, v = regime.cached(tape, k, k.dtype), regime.cached(tape, v, k.dtype)
        if self.flash:
            context = weights = replace(regime, use_cache=False).attend(tape, q, k, v, None, self.dropout)
            return linear(tape, context, w.o), weights
        scores = e.linear_unary(tape, "mul", attention.scores(tape, q, k))
        scores = e.add(tape, scores, biases.alibi.as_shape((1, self.heads, 1, hidden.shape[1])))
        scores = masked_fill(tape, scores, biases.mask)
        weights = tape.to(softmax(tape, tape.to(scores, "float32"), in_float32=False), v.dtype)
        weights = e.dropout(tape, weights, self.dropout)
        context = attention.weighted(tape, weights, v)
        context = attention.merge_heads(tape, context)
        return linear(tape, context, w.o), weights

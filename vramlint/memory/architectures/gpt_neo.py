"""GPT-Neo: global and local attention in turn, by buffers of one size (transformers 5.23 models/gpt_neo)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.weight_outputs import Blocks
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.wide_attention import Scoring, attend
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

OWN_MASKS_UNTIL = (5, 0)
"""Before this version of transformers the model built its mask itself, and every layer had a scalar buffer too."""
WINDOWED = Scoring(windowed=True)


class Layer(Struct):
    """Weights of one block."""

    ln_1: LayerNorm
    k: Weights
    v: Weights
    q: Weights
    o: Weights
    ln_2: LayerNorm
    up: Weights
    down: Weights


class GPTNeo(CausalLM):
    """GPTNeoForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gpt_neo": ("q_proj", "v_proj")}
    widens_logits: ClassVar[bool] = True
    own_loss_until: tuple[int, ...] = (4, 48)
    widens_logits_until: ClassVar[tuple[int, ...]] = (5, 0)
    narrows_logits: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        self.hidden = number(config, "hidden_size", default=2048)
        self.heads = number(config, "num_heads", "num_attention_heads", default=16)
        self.count = number(config, "num_layers", "num_hidden_layers", default=24)
        self.attention_dropout = probability(config, "attention_dropout")
        self.residual_dropout = probability(config, "resid_dropout")
        self.embedding_dropout = probability(config, "embed_dropout")
        self.activation = str(config.get("activation_function", "gelu_new"))
        limit = number(config, "max_position_embeddings", default=2048)
        vocabulary = number(config, "vocab_size", default=50257)
        inner = number(config, "intermediate_size", default=4 * self.hidden)
        self.embedding = build.parameter("transformer.wte.weight", (vocabulary, self.hidden))
        self.position_embedding = build.parameter("transformer.wpe.weight", (limit, self.hidden))
        self.layers: list[Layer] = []
        for position in build.layers(self.count):
            build.buffer(limit * limit)
            if build.transformers < OWN_MASKS_UNTIL:
                build.buffer(build.width)
            self.layers.append(self._layer(build, inner, f"transformer.h.{position}"))
        self.norm = LayerNorm.of(build, "transformer.ln_f", self.hidden)
        self.head = self.build_head(build, config, "lm_head", self.hidden, vocabulary, ties=True)

    def _layer(self, build: Builder, inner: int, name: str) -> Layer:
        size, attn = self.hidden, f"{name}.attn.attention"
        return Layer(
            ln_1=LayerNorm.of(build, f"{name}.ln_1", size),
            k=build.linear(f"{attn}.k_proj", size, size),
            v=build.linear(f"{attn}.v_proj", size, size),
            q=build.linear(f"{attn}.q_proj", size, size),
            o=build.linear(f"{attn}.out_proj", size, size, bias=True),
            ln_2=LayerNorm.of(build, f"{name}.ln_2", size),
            up=build.linear(f"{name}.mlp.c_fc", size, inner, bias=True),
            down=build.linear(f"{name}.mlp.c_proj", inner, size, bias=True),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """GPTNeoModel.forward."""
        order = tape.empty((1, embedded.shape[1]), "int64", "position ids")
        regime = regime.without_sdpa()
        own = regime.transformers < OWN_MASKS_UNTIL
        mask = regime.unshared_mask(tape, embedded) if own else regime.mask(tape, embedded, None)
        positioned = embedding(tape, order, self.position_embedding)
        entering = [e.add(tape, embedded, positioned)]
        entering = [e.dropout(tape, entering.pop(), self.embedding_dropout)]
        blocks = Blocks(order if own else None)

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
        hidden = e.add(tape, attended, residual)
        residual = hidden
        hidden = w.ln_2(tape, hidden)
        fed = linear(tape, activation(tape, self.activation, linear(tape, hidden, w.up)), w.down)
        fed = e.dropout(tape, fed, self.residual_dropout)
        return e.add(tape, residual, fed), weights

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        q, k, v = (linear(tape, hidden, weights) for weights in (w.q, w.k, w.v))
        q, k, v = (attention.split_heads(tape, x, self.heads) for x in (q, k, v))
        if regime.use_cache:
            k, v = regime.cached(tape, k, k.dtype), regime.cached(tape, v, k.dtype)
        if regime.implementation == "eager":
            out, weights = attend(tape, q, k, v, mask, self.attention_dropout, WINDOWED)
            out = attention.merge_heads(tape, out)
        else:
            out = weights = replace(regime, use_cache=False).attend(tape, q, k, v, None, self.attention_dropout)
        out = linear(tape, out, w.o)
        return e.dropout(tape, out, self.residual_dropout), weights

"""torchtune's TransformerDecoder (torchtune 0.7 modules/{transformer,attention,feed_forward,rms_norm}.py, models/*).

Config keys are those of config.json; `component` is the builder that the model comes from, `qk_norm` and
`attention_bias` its switches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, Outputs, number
from vramlint.memory.ops import attention, head_chunks, inductor, sdpa, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.activation import activation
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm, rms_norm_unit_offset
from vramlint.memory.ops.ring import ring_attention
from vramlint.memory.ops.rotary import Rotary, rotate, rotate_pairs_widened
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

HALVES = frozenset({"phi3", "qwen2", "qwen3"})
"""Components that rotate halves in place of pairs (models/{phi3,qwen2}/_position*_embeddings.py)."""
SHARED_TABLES = frozenset({"llama3_1", "llama3_2"})
"""Components whose layers share the rotary tables with adapters too; in the others `lora_…_self_attention` makes them
anew for every layer (models/*/_component_builders.py)."""
GEMMAS = frozenset({"gemma", "gemma2"})


class Attention(Struct):
    """Weights of one MultiHeadAttention."""

    q: Weights
    k: Weights
    v: Weights
    output: Weights
    q_norm: Parameter | None
    k_norm: Parameter | None


class Layer(Struct):
    """Weights of one TransformerSelfAttentionLayer."""

    attention: Attention
    sa_norm: Parameter
    mlp_norm: Parameter
    w1: Weights
    w2: Weights
    w3: Weights
    sa_scale: Parameter | None
    mlp_scale: Parameter | None


class TransformerDecoder(CausalLM):
    """torchtune.modules.TransformerDecoder."""

    widens_logits: ClassVar[bool] = True
    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    shares_heads: ClassVar[bool] = False
    """Whether attention takes fewer key and value heads than queries as they are."""
    compiles: ClassVar[bool] = True
    """Whether what torch.compile makes of a layer is followed; else it runs as it is written, which holds more."""

    def __init__(self, build: Builder, config: Config) -> None:
        self.component = str(config.get("component", ""))
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.groups = number(config, "num_key_value_heads", default=self.heads)
        self.size = number(config, "head_dim", default=self.hidden // self.heads)
        self.repeats = 1 if self.shares_heads else self.heads // self.groups
        self.inner = number(config, "intermediate_size")
        self.count = number(config, "num_hidden_layers")
        self.vocabulary = number(config, "vocab_size")
        self.normed, self.biased = bool(config.get("qk_norm")), bool(config.get("attention_bias"))
        tables = 4 * number(config, "max_position_embeddings") * self.size * (2 if self.component in HALVES else 1)
        repeats = build.adapter is not None and self.component not in SHARED_TABLES
        if not repeats:
            build.buffer(tables)
        self._build(build, config, tables if repeats else 0)

    def _build(self, build: Builder, config: Config, tables: int) -> None:
        """All weights; every layer has rotary tables of so many bytes of its own."""
        self.embedding = build.parameter("tok_embeddings.weight", (self.vocabulary, self.hidden))
        self.layers: list[Layer] = []
        for position in build.layers(self.count):
            if tables:
                build.buffer(tables)
            self.layers.append(self._layer(build, f"layers.{position}"))
        self._end(build, config)

    def _end(self, build: Builder, config: Config) -> None:
        """The last norm and the head."""
        self.norm = build.norm("norm.scale", self.hidden)
        tied = self.embedding if config.get("tie_word_embeddings") else None
        self.head = build.linear("output", self.hidden, self.vocabulary, head=True, tied_to=tied)

    def _attention_of(self, build: Builder, name: str) -> Attention:
        queries, keys = self.heads * self.size, self.groups * self.size
        normed = self.normed
        return Attention(
            q=build.linear(f"{name}.attn.q_proj", self.hidden, queries, bias=self.biased),
            k=build.linear(f"{name}.attn.k_proj", self.hidden, keys, bias=self.biased),
            v=build.linear(f"{name}.attn.v_proj", self.hidden, keys, bias=self.biased),
            output=build.linear(f"{name}.attn.output_proj", queries, self.hidden),
            q_norm=build.norm(f"{name}.attn.q_norm.scale", self.size) if normed else None,
            k_norm=build.norm(f"{name}.attn.k_norm.scale", self.size) if normed else None,
        )

    def _layer(self, build: Builder, name: str) -> Layer:
        scaled = self.component == "gemma2"
        return Layer(
            attention=self._attention_of(build, name),
            # `mlp` at the end, for adapters name it as a whole
            w1=build.linear(f"{name}.w1.mlp", self.hidden, self.inner),
            w2=build.linear(f"{name}.w2.mlp", self.inner, self.hidden),
            w3=build.linear(f"{name}.w3.mlp", self.hidden, self.inner),
            sa_norm=build.norm(f"{name}.sa_norm.scale", self.hidden),
            mlp_norm=build.norm(f"{name}.mlp_norm.scale", self.hidden),
            sa_scale=build.norm(f"{name}.sa_scale.scale", self.hidden) if scaled else None,
            mlp_scale=build.norm(f"{name}.mlp_scale.scale", self.hidden) if scaled else None,
        )

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings; Gemma's are scaled."""
        embedded = super().embed(tape, tokens)
        return e.linear_unary(tape, "mul", embedded) if self.component in GEMMAS else embedded

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """The layers and the norm behind them, which caps its output in Gemma 2."""

        def layer(x: Tensor, index: int) -> Tensor:
            return regime.layer(tape, lambda y: self._forward(tape, regime, self.layers[index], y), x)

        hidden = self._normalise(tape, tape.course.repeat(self.count, layer, [embedded]), self.norm)
        return e.softcapped(tape, [hidden]) if self.component == "gemma2" else hidden

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The recipe's `_loss_step`: the loss gets the head's input, logits in chunks, or all of them in float32."""
        hidden = self.hidden_states(tape, regime, self.embed(tape, batch["input_ids"]))
        if regime.loss == head_chunks.WITH_HEAD:
            loss = head_chunks.with_head(tape, hidden, self.head)
        elif regime.loss == head_chunks.LOGITS:
            loss = head_chunks.of_logits(tape, hidden, self.head)
        else:
            logits = tape.to(linear(tape, hidden, self.head), "float32")
            tape.course.returns()
            mark_logits(tape, logits)
            flat = logits.as_shape((logits.shape[0] * logits.shape[1], self.vocabulary))
            loss = inductor.cross_entropy(tape, flat) if tape.compiled else cross_entropy(tape, flat, batch["labels"])
            del flat, logits
        return Outputs(loss, [], tape.lifetimes.taken_cache())

    def _forward(self, tape: Tape, regime: Regime, w: Layer, x: Tensor) -> Tensor:
        if tape.compiled and self.compiles and self.component not in GEMMAS:
            return self._compiled(tape, regime, w, x)
        h = self._column_input(tape, self._normalise(tape, x, w.sa_norm))
        attn_out = self._attention(tape, regime, w.attention, h)
        h = e.add(tape, self._scaled(tape, attn_out, w.sa_scale), x)
        mlp_out = self._mlp(tape, w, self._column_input(tape, self._normalise(tape, h, w.mlp_norm)))
        return e.add(tape, h, self._scaled(tape, mlp_out, w.mlp_scale))

    def _compiled(self, tape: Tape, regime: Regime, w: Layer, x: Tensor) -> Tensor:
        """The same as torch.compile's kernels: every layer is compiled by itself (training/_compile.py)."""
        own = w.attention
        h = self._column_input(tape, inductor.rms_norm(tape, x, w.sa_norm))
        q = self._in_one_kernel(tape, linear(tape, h, own.q), self.heads, own.q_norm)
        k, v = linear(tape, h, own.k), linear(tape, h, own.v)
        del h
        k = self._in_one_kernel(tape, k, self.groups, own.k_norm, self.repeats)
        v = attention.split_heads(tape, v, self.groups)
        v = v if self.repeats == 1 else inductor.repeated(tape, v, self.repeats)
        out = self._attended(tape, regime, q, k, v)
        del q, k, v
        attended = self._row(tape, attention.merge_heads(tape, out), own.output)
        del out
        h = inductor.added(tape, attended, x)
        del attended
        normed = self._column_input(tape, inductor.rms_norm(tape, h, w.mlp_norm))
        gate, up = linear(tape, normed, w.w1), linear(tape, normed, w.w3)
        del normed
        inner = inductor.gated(tape, gate, up)
        del gate, up
        return inductor.added(tape, self._row(tape, inner, w.w2), h)

    def _in_one_kernel(self, tape: Tape, x: Tensor, heads: int, norm: Parameter | None, repeats: int = 1) -> Tensor:
        """[B, S, heads · d] normalised, rotated and copied for the heads that share it."""
        by_head = (*x.shape[:-1], heads, self.size)
        if norm is not None:
            flat = x.shape
            x = inductor.rms_norm(tape, shaping.viewed(tape, x, by_head), norm)
            x = shaping.viewed(tape, x, flat)
        if repeats > 1:
            return inductor.repeated(tape, attention.split_heads(tape, x, heads), repeats)
        return attention.split_heads(tape, inductor.pointwise(tape, x), heads)

    def _normalise(self, tape: Tape, x: Tensor, norm: Parameter) -> Tensor:
        return rms_norm_unit_offset(tape, x, norm) if self.component in GEMMAS else rms_norm(tape, x, norm)

    def _normalise_heads(self, tape: Tape, x: Tensor, norm: Parameter) -> Tensor:
        return rms_norm(tape, x, norm)

    def _scaled(self, tape: Tape, x: Tensor, norm: Parameter | None) -> Tensor:
        return x if norm is None else self._normalise(tape, x, norm)

    def _attention(self, tape: Tape, regime: Regime, w: Attention, x: Tensor) -> Tensor:
        q = self._rotated(tape, [linear(tape, x, w.q)], self.heads, w.q_norm)
        k, v = linear(tape, x, w.k), linear(tape, x, w.v)
        k = self._rotated(tape, [k], self.groups, w.k_norm)
        v = attention.split_heads(tape, v, self.groups)
        k, v = attention.repeat_heads(tape, k, self.repeats), attention.repeat_heads(tape, v, self.repeats)
        if self.component == "gemma2":
            mask = tape.empty((x.shape[1], x.shape[1]), "float32", "attention mask")
            out = attention.eager(tape, q, k, v, mask, 0, softcap=True)
        else:
            out = self._attended(tape, regime, q, k, v)
        return self._row(tape, attention.merge_heads(tape, out), w.output)

    def _attended(self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The kernel of the attention; torch's ring where a context of `context_parallel` has taken its place."""
        if regime.sequence is not None:
            return ring_attention(tape, q, k, v, regime.sequence.ranks)
        return sdpa.scaled_dot_product(tape, q, k, v, None, 0, regime.kernels)

    def _rotated(self, tape: Tape, held: list[Tensor], heads: int, norm: Parameter | None) -> Tensor:
        """[B, S, heads · d], the only one of `held`, normalised, rotated and seen as [B, heads, S, d]."""
        x = held.pop()
        flat = x.shape
        by_head = (*flat[:-1], heads, self.size)
        x = shaping.viewed(tape, x, by_head)
        if norm is not None:
            x = self._normalise_heads(tape, x, norm)
        if self.component in HALVES:
            table = Tensor((1, flat[1], 1, self.size), "float32" if self.component == "phi3" else x.dtype, None)
            x = tape.to(rotate(tape, x, Rotary(table, table)), x.dtype)
        else:
            x = rotate_pairs_widened(tape, x)
        return attention.split_heads(tape, shaping.viewed(tape, x, flat), heads)

    def _mlp(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        h = activation(tape, "gelu" if self.component in GEMMAS else "silu", linear(tape, x, w.w1))
        h = e.mul(tape, h, linear(tape, x, w.w3))
        return self._row(tape, h, w.w2)

    def _column_input(self, tape: Tape, x: Tensor) -> Tensor:
        """What the products at the head of a block take of its normalised input: itself, where no ranks share it."""
        return x

    def _row(self, tape: Tape, x: Tensor, weights: Weights) -> Tensor:
        """The product at a block's end."""
        return linear(tape, x, weights)

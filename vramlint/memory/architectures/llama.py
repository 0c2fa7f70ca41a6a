"""Llama and its close relatives: Mistral and Ministral (windows), Qwen2 (biases), Qwen3 (query and key norms).

transformers 5.23 models/{llama,mistral,ministral,qwen2,qwen3}/modeling_*.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, number, probability
from vramlint.memory.architectures.feed_forward import FeedForward, GatedMlp
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING, Kind, alike, attention_types
from vramlint.memory.ops import attention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm
from vramlint.memory.ops.rotary import Rotary, rotary, rotate
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

QUERY_KEY_NORMS = frozenset({"qwen3", "qwen3_moe"})
"""Models that normalise every head's queries and keys."""
QKV_BIASES = frozenset({"qwen2", "qwen2_moe", "mimo"})
"""Models with biases on queries, keys and values unless their config says otherwise."""
WINDOWED_AS_A_WHOLE = frozenset({"ministral3", "mistral", "mixtral", "phimoe", "qwen3_moe", "starcoder2"})
"""Models whose layers all slide if there is a window, and that then build no other mask."""
WINDOWED_LATE = frozenset({"qwen2", "qwen2_moe", "qwen3", "mimo"})
"""Models whose layers slide from number `max_window_layers` on if there is a window."""
SWITCHED_WINDOWS = frozenset({"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "mimo"})
"""Models without a window unless `use_sliding_window` says so."""
ROTARY_TABLES_UNTIL: Mapping[str, tuple[int, ...]] = {
    "cohere": (),
    "gemma": (),
    "mistral": (4, 42),
    "mixtral": (4, 48),
    "olmo": (),
    "qwen2": (4, 45),
    "qwen2_moe": (4, 45),
    "stablelm": (4, 45),
    "starcoder2": (4, 45),
}
"""Before this version of transformers every layer kept cos and sin of all positions in the model's dtype."""
LLAMA_TABLES_UNTIL = (4, 41)
"""The same of all others."""
OWN_LOSS_UNTIL = {"mistral": (4, 48)}
"""Before this version of transformers a model took the loss itself, where that is another than for most."""
MOST_LAYERS = 10_000
"""A config with more is not meant: kinds are listed layer by layer."""

Norm = Parameter | LayerNorm
"""What a model normalises with."""


class Layer(Struct):
    """Weights of one decoder layer."""

    input_norm: Norm
    q: Weights
    k: Weights
    v: Weights
    o: Weights
    q_norm: Norm | None
    k_norm: Norm | None
    post_norm: Norm
    mlp: FeedForward


class Llama(CausalLM):
    """LlamaForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3"), ("q_proj", "v_proj")
    )
    widens_logits: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, object]] = {}
    """What the model's configuration class fills in for keys that config.json may lack."""
    activation_key: ClassVar[str] = "hidden_act"
    norm_names: ClassVar[tuple[str, str]] = ("input_layernorm", "post_attention_layernorm")
    """The norms of attention and of the MLP."""
    builds_both_masks: ClassVar[bool] = False
    """Whether the mask of sliding layers is built even if no layer takes it."""
    caches_in_training_from: ClassVar[tuple[int, ...]] = ()
    """Before this version of transformers it made no cache in training, whatever was asked for."""

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        self.transformers = build.transformers
        self.hidden = number(config, "hidden_size")
        self.heads = number(config, "num_attention_heads")
        self.kv_heads = number(config, "num_key_value_heads", default=self.heads)
        self.head_size = number(config, "head_dim", default=self.hidden // self.heads)
        self.intermediate = number(config, "intermediate_size")
        self.count = number(config, "num_hidden_layers")
        if self.count > MOST_LAYERS:
            raise ValueError("num_hidden_layers")
        self.activation = str(config.get(self.activation_key) or "silu")
        self.attention_dropout = probability(config, "attention_dropout")
        self.model_type = str(config.get("model_type", "llama"))
        self.own_loss_until = OWN_LOSS_UNTIL.get(self.model_type, self.own_loss_until)
        self.window = number(config, "sliding_window", default=0) or None
        self.kinds: Sequence[Kind] = self._kinds(config)
        self.attentions = frozenset(kind.attention for kind in self.kinds)
        if not build.window_shows(self.window):
            self.kinds = alike(self.kinds)
        vocabulary = number(config, "vocab_size")
        self._rotary_buffers(build, config)
        body = self.body_name(config)
        rows = build.plan.rows_of_embedding(vocabulary)
        self.embedding = build.parameter(f"{body}.embed_tokens.weight", (rows, self.hidden))
        self.embedding_ranks = build.plan.ranks if build.plan.embedding else 1
        self.layers: list[Layer] = []
        self.passes_all_tables = False
        """Whether every layer gets the rotary tables of all kinds."""
        self.traced: list[Kind] = []
        """Kinds of the traced layers."""
        limit = number(config, "max_position_embeddings", default=2048)
        for position in build.layers(self.kinds):
            if build.transformers < ROTARY_TABLES_UNTIL.get(self.model_type, LLAMA_TABLES_UNTIL):
                build.buffer(build.width * limit * self.rotated_size)
                build.buffer(build.width * limit * self.rotated_size)
            self.layers.append(self._layer(build, config, f"{body}.layers.{position}"))
            self.traced.append(self.kinds[position])
        self.norm = self._norm(build, f"{body}.norm")
        rows = build.plan.rows_of_head(vocabulary)
        self.head = self.build_head(build, config, "lm_head", self.hidden, rows, ties=False)
        self.embedding.whole_gradient = self.embedding_ranks > 1 and self.head.weight is not self.embedding

    @property
    def rotated_size(self) -> int:
        """How much of a head is rotated."""
        return self.head_size

    def body_name(self, config: Config) -> str:
        """The attribute of the model with a head that holds the one without."""
        return "model"

    def _kinds(self, config: Config) -> Sequence[Kind]:
        """The kind of every layer."""
        if self.model_type in SWITCHED_WINDOWS and not config.get("use_sliding_window", False):
            self.window = None
        if self.model_type in WINDOWED_AS_A_WHOLE:
            return (Kind(FULL if self.window is None else SLIDING),) * self.count
        if self.model_type not in WINDOWED_LATE:
            return (Kind(),) * self.count
        first = number(config, "max_window_layers", default=28)
        types = attention_types(config, self.count, lambda index: self.window is not None and index >= first)
        return tuple([Kind(attention) for attention in types])

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        """inv_freq and its copy, in float32."""
        build.buffer(4 * self.head_size // 2)
        build.buffer(4 * self.head_size // 2)

    def _norm(self, build: Builder, name: str) -> Norm:
        """A norm over the width of the model."""
        return build.norm(f"{name}.weight", self.hidden)

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        bias, output_bias = self._biases(config)
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        normed = self.model_type in QUERY_KEY_NORMS
        return Layer(
            q=build.linear(f"{name}.self_attn.q_proj", self.hidden, queries, bias=bias),
            k=build.linear(f"{name}.self_attn.k_proj", self.hidden, keys, bias=bias),
            v=build.linear(f"{name}.self_attn.v_proj", self.hidden, keys, bias=bias),
            o=build.linear(f"{name}.self_attn.o_proj", queries, self.hidden, bias=output_bias),
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.head_size) if normed else None,
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.head_size) if normed else None,
            mlp=self._mlp(build, config, f"{name}.mlp"),
            input_norm=self._norm(build, f"{name}.{self.norm_names[0]}"),
            post_norm=self._norm(build, f"{name}.{self.norm_names[1]}"),
        )

    def _biases(self, config: Config) -> tuple[bool, bool]:
        """Whether queries, keys and values have a bias, and whether the output projection has one."""
        bias = bool(config.get("attention_bias", config.get("qkv_bias", self.model_type in QKV_BIASES)))
        return bias, bias and self.model_type not in QKV_BIASES

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        bias = bool(config.get("mlp_bias", False))
        return GatedMlp.of(build, name, self.hidden, self.intermediate, self.activation, bias=bias)

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """LlamaModel.forward. Checkpoints keep their layer's arguments, among them the position ids."""
        if tape.training and self.transformers < self.caches_in_training_from:
            regime = replace(regime, use_cache=False)
        order = tape.empty((1, embedded.shape[1]), "int64", "position ids")
        masks = self.masks(tape, regime, embedded)
        positions = self.positions(tape, embedded)
        arguments = (order, positions) if self.passes_all_tables else (order,)

        def layer(hidden: Tensor, index: int) -> Tensor:
            weights, kind = self.layers[index], self.traced[index]
            if index == 0:
                hidden = self.first_input(tape, hidden)
            position = positions[kind.attention] if kind.rotates else None
            mask = masks[kind.attention]
            forward = partial(self._forward, tape, regime, weights, position=position, mask=mask)
            return regime.layer(tape, forward, hidden, arguments=arguments)

        hidden = tape.course.repeat(self.kinds, layer, [embedded])
        return self.normalise(tape, hidden, self.norm)

    def first_input(self, tape: Tape, embedded: Tensor) -> Tensor:
        """What the first layer takes, made of embeddings that the body holds on to."""
        return embedded

    def masks(self, tape: Tape, regime: Regime, embedded: Tensor) -> Mapping[str, Tensor | None]:
        """The masks by kind of attention, taken or not; all are built before the first layer."""
        kinds = self.attentions if self.model_type in WINDOWED_AS_A_WHOLE else self.attentions | {FULL}
        if self.builds_both_masks:
            kinds = frozenset((FULL, SLIDING))
        return {kind: regime.mask(tape, embedded, self.window if kind == SLIDING else None) for kind in sorted(kinds)}

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """The rotary tables by kind of attention."""
        return dict.fromkeys((FULL, SLIDING), rotary(tape, embedded, self.head_size))

    def _forward(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        residual = hidden
        hidden = self.normalise(tape, hidden, w.input_norm)
        hidden = self._attention(tape, regime, w, hidden, position, mask)
        hidden = e.add(tape, residual, hidden)
        residual = hidden
        hidden = self.normalise(tape, hidden, w.post_norm)
        hidden = self.feed_forward(tape, w, hidden)
        return e.add(tape, residual, hidden)

    def _attention(
        self, tape: Tape, regime: Regime, w: Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        q = self._projected(tape, hidden, w.q, w.q_norm, self.heads)
        k = self._projected(tape, hidden, w.k, w.k_norm, self.kv_heads)
        v = self._projected(tape, hidden, w.v, None, self.kv_heads)
        if position is not None:
            q, k = self.rotate(tape, q, k, position)
        return linear(tape, self._attend(tape, regime, q, k, v, mask), w.o)

    def _attend(self, tape: Tape, regime: Regime, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return regime.attend(tape, q, k, v, mask, self.attention_dropout)

    def _projected(self, tape: Tape, hidden: Tensor, w: Weights, norm: Norm | None, heads: int) -> Tensor:
        out = linear(tape, hidden, w)
        if norm is not None:
            width = out.shape[-1]
            by_head = out.as_shape((*out.shape[:-1], heads, self.head_size))
            out = self.normalise(tape, by_head, norm).as_shape((*hidden.shape[:-1], width))
        return attention.split_heads(tape, out, heads)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb for queries and keys [B, heads, S, d]."""
        return rotate(tape, q, position), rotate(tape, k, position)

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """LlamaRMSNorm."""
        return norm(tape, x) if isinstance(norm, LayerNorm) else rms_norm(tape, x, norm)

    def feed_forward(self, tape: Tape, w: Layer, x: Tensor) -> Tensor:
        """The layer's MLP."""
        return w.mlp(tape, x)

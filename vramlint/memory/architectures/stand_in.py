"""A llama in place of a decoder that is not known by its name, as far as its config.json tells what it is made of.

The keys are those that transformers' own models use for the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import replace

from vramlint.memory.architectures.family import Config, number, ratio
from vramlint.memory.architectures.feed_forward import FeedForward, GatedMlp, PlainMlp
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING, Kind, attention_types
from vramlint.memory.architectures.llama import Layer, Llama
from vramlint.memory.architectures.mixture import Block, JoinedBlock, Mixture
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_part
from vramlint.memory.ops.routing import SoftmaxRouter
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

DIMENSIONS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Keys without which nothing can be said."""
FOREIGN = (
    # latent attention, state spaces, convolutions, linear attention, mixtures of such layers
    "kv_lora_rank q_lora_rank ssm_cfg state_size mamba_d_state mamba_d_conv ssm_state_size d_conv rwkv conv_L_cache "
    "linear_num_value_heads linear_key_head_dim attn_layer_period full_attn_idxs hybrid_override_pattern "
    "hybrid_layer_pattern hidden_size_per_layer_input "
    # encoders, encoder-decoders, other senses
    "is_encoder_decoder type_vocab_size position_buckets relative_attention vision_config audio_config image_size "
    "num_mel_bins hidden_dropout_prob attention_probs_dropout_prob relative_attention_num_buckets "
    "global_attn_every_n_layers conv_dim num_codebooks mask_token_id"
)
"""Keys of models that are no decoders, or whose layers are no attention over keys and values of every head."""
CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Endings of the class names of models that predict the next token."""
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k")
SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
DENSE_BEFORE = ("first_k_dense_replace", "moe_layer_start_index")
QUERY_KEY_NORMS = ("use_qk_norm", "qk_layernorm", "qk_norm", "use_qk_layernorm")
QKV_BIASES = ("attention_bias", "qkv_bias", "use_qkv_bias", "add_qkv_bias", "use_bias", "bias")
MLP_BIASES = ("mlp_bias", "use_bias")
ROTATED = ("partial_rotary_factor", "rotary_pct")
WITHOUT_GATE = frozenset({"relu", "relu2"})
"""Activations of models whose MLP has no gate (OPT, Nemotron, Arcee, Jais 2, Persimmon)."""


def text_part(config: Config) -> Config:
    """The language model's part of a config."""
    nested = config.get("text_config")
    return {**config, **nested} if isinstance(nested, Mapping) and "hidden_size" not in config else config


def resembles_llama(config: Config) -> bool:
    """Whether the config has llama's dimensions and none of the keys of something else."""
    text = text_part(config)
    named = config.get("architectures")
    if isinstance(named, Sequence) and named and not any(str(name).endswith(CAUSAL) for name in named):
        return False
    complete = all(isinstance(text.get(key), int) for key in DIMENSIONS)
    return complete and not any(text.get(key) for key in FOREIGN.split())


class StandIn(Mixture):
    """…ForCausalLM of a model type that nobody wrote down."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    counts: ClassVar[tuple[str, ...]] = EXPERTS
    converts_targets: ClassVar[bool] = False
    balances: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        text = text_part(config)
        heads = number(text, "num_attention_heads")
        size = number(text, "head_dim", default=number(text, "hidden_size") // heads)
        self.rotated = int(size * ratio(text, *ROTATED, default=1.0))
        self.normed = any(text.get(key) for key in QUERY_KEY_NORMS)
        experts, chosen = number(text, *EXPERTS, default=0), number(text, *CHOSEN, default=2)
        super().__init__(build, {**text, EXPERTS[0]: experts, "num_experts_per_tok": chosen})

    def _kinds(self, config: Config) -> Sequence[Kind]:
        if not config.get("use_sliding_window", True):
            self.window = None
        stated = config.get("layer_types")
        if isinstance(stated, Sequence) and not isinstance(stated, str):
            types: Sequence[str] = attention_types(config, self.count, lambda _: False)
        else:
            types = (FULL if self.window is None else SLIDING,) * self.count
        return [Kind(attention, sparse=self.is_sparse(config, index)) for index, attention in enumerate(types)]

    def is_sparse(self, config: Config, position: int) -> bool:
        """Whether the layer of that number has experts (deepseek_v3's, qwen3_moe's and glm4_moe's keys)."""
        stated, dense = config.get("mlp_layer_types"), config.get("mlp_only_layers")
        if isinstance(stated, Sequence) and not isinstance(stated, str) and position < len(stated):
            return bool(stated[position] == "sparse")
        if isinstance(dense, Sequence) and not isinstance(dense, str) and position in dense:
            return False
        step = number(config, "decoder_sparse_step", default=1)
        return self.experts > 0 and position >= number(config, *DENSE_BEFORE, default=0) and not (position + 1) % step

    def _rotary_buffers(self, build: Builder, config: Config) -> None:
        build.buffer(4 * self.rotated // 2)
        build.buffer(4 * self.rotated // 2)

    def _biases(self, config: Config) -> tuple[bool, bool]:
        bias = any(config.get(key) for key in QKV_BIASES)
        return bias, bool(config.get("attention_out_bias", config.get("attention_bias", False)))

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        layer = Llama._layer(self, build, config, name)
        if not self.normed:
            return layer
        return replace(
            layer,
            q_norm=build.norm(f"{name}.self_attn.q_norm.weight", self.head_size),
            k_norm=build.norm(f"{name}.self_attn.k_norm.weight", self.head_size),
        )

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        if self.kinds[int(name.split(".")[-2])].sparse:
            return self.block(build, config, name)
        bias = any(config.get(key) for key in MLP_BIASES)
        return self._dense(build, name, self.intermediate, bias=bias)

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """Experts as Mixtral's, with one that every token goes to as well if the config has a size for it."""
        normalises = bool(config.get("norm_topk_prob", True))
        router = SoftmaxRouter(self.gate(build, name), self.chosen, normalises, "logits" if self.fused else "input")
        experts = self.build_experts(build, name, self.expert_width(config))
        width = number(config, "shared_expert_intermediate_size", default=0)
        width = width or number(config, *SHARED, default=0) * self.expert_width(config)
        if not width:
            return Block(router, experts, self.record)
        shared = GatedMlp.of(build, f"{name}.shared_experts", self.hidden, width, self.activation, bias=False)
        return JoinedBlock(router, experts, shared, self.record)

    def _dense(self, build: Builder, name: str, inner: int, *, bias: bool) -> FeedForward:
        if self.activation in WITHOUT_GATE:
            return PlainMlp(
                up=build.linear(f"{name}.up_proj", self.hidden, inner, bias=bias),
                down=build.linear(f"{name}.down_proj", inner, self.hidden, bias=bias),
                activation=self.activation,
            )
        return GatedMlp.of(build, name, self.hidden, inner, self.activation, bias=bias)

    def expert_width(self, config: Config) -> int:
        """Width of an expert, under one of three names."""
        return number(config, "moe_intermediate_size", "expert_intermediate_size", "intermediate_size")

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Rotary tables of what rotates of every head."""
        return dict.fromkeys((FULL, SLIDING), rotary(tape, embedded, self.rotated))

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """Rotate whole heads, or their first part."""
        if self.rotated == self.head_size:
            return super().rotate(tape, q, k, position)
        return rotate_part(tape, q, k, position)

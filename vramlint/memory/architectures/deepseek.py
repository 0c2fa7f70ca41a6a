"""DeepSeek V2 and V3: latent attention, dense layers first (transformers 5.23 models/{deepseek_v2,deepseek_v3})."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.feed_forward import FeedForward, GatedMlp
from vramlint.memory.architectures.layer_kinds import FULL
from vramlint.memory.architectures.mixture import Mixture, Record
from vramlint.memory.ops import attention, latent, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.expert_loops import SortedExperts, WideLoopedExperts
from vramlint.memory.ops.experts import Experts
from vramlint.memory.ops.grouped_routing import ScaledSoftmaxRouter, SigmoidRouter
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary, rotate, rotate_pairs, unpaired
from vramlint.memory.ops.routing import Router
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class AddedBlock(Struct):
    """DeepseekV3MoE: shared experts' output is added."""

    router: Router
    experts: Experts
    shared: GatedMlp
    record: Record
    returns_logits: bool

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Map [B, S, H] to [B, S, H]."""
        flat = shaping.viewed(tape, x, (x.numel // x.shape[-1], x.shape[-1]))
        logits: Tensor | None
        logits, scores, indices = self.router(tape, flat)
        self.record(tape, logits)
        if not self.returns_logits:
            logits = None
        out = self.experts(tape, flat, scores, indices).as_shape(x.shape)
        out = e.add(tape, out, self.shared(tape, x))
        del logits
        return out


class GroupedMixture(Mixture):
    """Dense layers first, then experts chosen by groups, with shared ones beside them."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    balances: ClassVar[bool] = False
    names_logits: ClassVar[bool] = False
    wide_bias: ClassVar[bool] = True
    """Whether the bias of the choice is kept in float32 before transformers 5 too."""

    def is_sparse(self, config: Config, position: int) -> bool:
        """All but the first layers."""
        return position >= number(config, "first_k_dense_replace")

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """DeepseekV3MoE."""
        width = self.expert_width(config)
        experts = self.build_experts(build, name, width)
        router = self._router(build, config, name)
        width *= number(config, "n_shared_experts", default=1)
        shared = GatedMlp.of(build, f"{name}.shared_experts", self.hidden, width, self.activation, bias=self.biases)
        return AddedBlock(router, experts, shared, self.record, returns_logits=self.fused)

    def _router(self, build: Builder, config: Config, name: str) -> Router:
        """DeepseekV3TopkRouter."""
        build.buffer((4 if self.fused or self.wide_bias else build.width) * self.experts)
        return SigmoidRouter(
            build.target(f"{name}.gate.weight", (self.experts, self.hidden)),
            self.chosen,
            groups=number(config, "n_group", default=1),
            chosen_groups=number(config, "topk_group", default=1),
            normalises=bool(config.get("norm_topk_prob", True)),
            chooses_inside=self.fused,
        )

    def looped(self, experts: list[GatedMlp]) -> Experts:
        """DeepseekV3MoE.moe."""
        return WideLoopedExperts(experts)


class Layer(llama.Layer):
    """Weights of one decoder layer. `k` compresses keys and values, `k_norm` normalises that, `v` expands it again.

    `q` expands queries that `compress` made, or makes them by itself.
    """

    compress: Weights | None


class LatentAttention(GroupedMixture):
    """Attention over keys and values that are expanded from one small latent per token."""

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        self.rank = number(config, "kv_lora_rank")
        self.rotated = number(config, "qk_rope_head_dim")
        self.plain = number(config, "qk_nope_head_dim")
        self.value = number(config, "v_head_dim")
        super().__init__(build, {**config, "head_dim": self.rotated})

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        bias = bool(config.get("attention_bias", False))
        block = f"{name}.self_attn"
        queries, rank = self.heads * (self.plain + self.rotated), config.get("q_lora_rank")
        compress = q_norm = None
        if isinstance(rank, int):
            compress = build.linear(f"{block}.q_a_proj", self.hidden, rank, bias=bias)
            q_norm = build.norm(f"{block}.q_a_layernorm.weight", rank)
            q = build.linear(f"{block}.q_b_proj", rank, queries)
        else:
            q = build.linear(f"{block}.q_proj", self.hidden, queries)
        return Layer(
            q=q,
            compress=compress,
            q_norm=q_norm,
            k=build.linear(f"{block}.kv_a_proj_with_mqa", self.hidden, self.rank + self.rotated, bias=bias),
            k_norm=build.norm(f"{block}.kv_a_layernorm.weight", self.rank),
            v=build.linear(f"{block}.kv_b_proj", self.rank, self.heads * (self.plain + self.value)),
            o=build.linear(f"{block}.o_proj", self.heads * self.value, self.hidden, bias=bias),
            mlp=self._mlp(build, config, f"{name}.mlp"),
            input_norm=self._norm(build, f"{name}.{self.norm_names[0]}"),
            post_norm=self._norm(build, f"{name}.{self.norm_names[1]}"),
        )

    def _attention(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        assert isinstance(w, Layer) and w.k_norm is not None and position is not None  # noqa: S101  narrowing
        q_pass, q_rot = self._queries(tape, w, hidden)
        compressed = linear(tape, hidden, w.k)
        parts = shaping.split_last(tape, compressed, (self.rank, self.rotated))
        latents, k_rot = parts[0], _single_head(tape, parts[1])
        del parts
        if self.fused:
            latents = self.normalise(tape, latents, w.k_norm)
            q_rot, k_rot = self.rotate(tape, q_rot, k_rot, position)
            if regime.use_cache:
                latents, k_rot = _cached(tape, latents), _cached(tape, k_rot)
                regime = replace(regime, use_cache=False)
            q = shaping.concatenate_last(tape, q_pass, q_rot)
            expanded = self._expanded(tape, w, latents)
            k_pass, v = latent.split_parts(tape, expanded, (self.plain, self.value))
            k_wide = latent.expanded(tape, k_rot, self.heads)
            k = latent.filled(tape, k_pass, k_wide)
        else:
            expanded = self._expanded(tape, w, self.normalise(tape, latents, w.k_norm))
            k_pass, v = latent.split_parts(tape, expanded, (self.plain, self.value))
            q_rot, k_rot = self.rotate(tape, q_rot, k_rot, position)
            k_wide = latent.expanded(tape, k_rot, self.heads)
            q = shaping.concatenate_last(tape, q_pass, q_rot)
            k = shaping.concatenate_last(tape, k_pass, k_wide)
        out = linear(tape, self._attend(tape, regime, q, k, v, mask), w.o)
        del compressed
        return out

    def _queries(self, tape: Tape, w: Layer, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The plain and the rotated part of queries."""
        if w.compress is not None and w.q_norm is not None:
            hidden = self.normalise(tape, linear(tape, hidden, w.compress), w.q_norm)
        q = attention.split_heads(tape, linear(tape, hidden, w.q), self.heads)
        first, second = latent.split_parts(tape, q, (self.plain, self.rotated))
        return first, second

    def _expanded(self, tape: Tape, w: Layer, latents: Tensor) -> Tensor:
        """Keys without positions and values of every head."""
        return attention.split_heads(tape, linear(tape, latents, w.v), self.heads)


def _cached(tape: Tape, x: Tensor) -> Tensor:
    """DynamicCache.update of a latent, which is all that is cached."""
    out = attention.cached(tape, x, x.dtype)
    tape.lifetimes.keep(out)
    return out


def _single_head(tape: Tape, x: Tensor) -> Tensor:
    """[B, S, d] viewed as [B, 1, S, d]."""
    batch, length, size = x.shape
    return shaping.viewed(tape, x, (batch, 1, length, size))


class DeepseekV3(LatentAttention):
    """DeepseekV3ForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "vocab_size": 129280,
        "n_routed_experts": 256,
        "num_experts_per_tok": 8,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "n_group": 8,
        "topk_group": 4,
        "first_k_dense_replace": 3,
    }
    wide_bias: ClassVar[bool] = False

    def __init__(self, build: Builder, config: Config) -> None:
        self.interleaves = bool(config.get("rope_interleave", True))
        super().__init__(build, config)

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb_interleave: of pairs in place, or brought apart first before the experts were fused."""
        if not self.interleaves:
            return rotate(tape, q, position), rotate(tape, k, position)
        if self.fused:
            return rotate_pairs(tape, q, position), rotate_pairs(tape, k, position)
        q, k = unpaired(tape, q), unpaired(tape, k)
        return rotate(tape, q, position), rotate(tape, k, position)


class DeepseekV2(LatentAttention):
    """DeepseekV2ForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "moe_intermediate_size": 1407,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "first_k_dense_replace": 0,
    }
    has_biases: ClassVar[bool] = True

    def _router(self, build: Builder, config: Config, name: str) -> Router:
        """DeepseekV2TopkRouter."""
        method = config.get("topk_method", "greedy")
        if method not in ("greedy", "group_limited_greedy"):
            raise NotFollowedError(f"the routing method {method}")
        grouped = method == "group_limited_greedy"
        return ScaledSoftmaxRouter(
            build.target(f"{name}.gate.weight", (self.experts, self.hidden)),
            self.chosen,
            groups=number(config, "n_group") if grouped else 0,
            chosen_groups=number(config, "topk_group") if grouped else 0,
        )

    def looped(self, experts: list[GatedMlp]) -> Experts:
        """DeepseekV2MoE.moe."""
        return SortedExperts(experts)

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Complex factors, which count as pairs of float32 numbers."""
        factors = tape.empty((1, 1, embedded.shape[1], self.rotated), "float32", "rotary factors")
        return {FULL: Rotary(factors, factors)}

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_emb: by products of complex numbers."""
        wide_q, wide_k = tape.to(q, "float32"), tape.to(k, "float32")
        q_out = tape.to(e.mul(tape, wide_q, position.cos), q.dtype)
        k_out = tape.to(e.mul(tape, wide_k, position.cos), k.dtype)
        return q_out, k_out

"""Qwen3-MoE, and Qwen2-MoE with an expert that every token goes to (transformers 5.23 models/qwen*_moe)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.feed_forward import FeedForward, GatedMlp
from vramlint.memory.architectures.layer_kinds import FULL, Kind, attention_types
from vramlint.memory.architectures.llama import Layer
from vramlint.memory.architectures.mixture import Block, Mixture, Record
from vramlint.memory.architectures.own_attention import OwnAttention
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.experts import Experts
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.routing import Router, SoftmaxRouter
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class Qwen3Moe(Mixture):
    """Qwen3MoeForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "sliding_window": 4096,
    }

    def is_sparse(self, config: Config, position: int) -> bool:
        """Every `decoder_sparse_step`-th layer but those of `mlp_only_layers`."""
        dense = config.get("mlp_only_layers")
        if isinstance(dense, Sequence) and position in dense:
            return False
        return self.experts > 0 and (position + 1) % number(config, "decoder_sparse_step", default=1) == 0

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """Qwen3MoeSparseMoeBlock. Optimizers step the fused experts before the router, other experts behind it."""
        width = self.expert_width(config)
        if self.fused:
            experts = self.build_experts(build, name, width)
            return Block(self.router(build, config, name), experts, self.record)
        router = self.router(build, config, name)
        return Block(router, self.build_experts(build, name, width), self.record)

    def router(self, build: Builder, config: Config, name: str) -> SoftmaxRouter:
        """Qwen3MoeTopKRouter."""
        normalises = bool(config.get("norm_topk_prob", False))
        return SoftmaxRouter(self.gate(build, name), self.chosen, normalises, self.lowers)


class SharedBlock(Struct):
    """Qwen2MoeSparseMoeBlock: the shared expert's output counts as its gate says."""

    router: Router
    experts: Experts
    shared: GatedMlp
    shared_gate: Weights
    shared_first: bool
    record: Record

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Map [B, S, H] to [B, S, H]. The shared expert runs first where experts are fused, last before."""
        flat = x.as_shape((x.numel // x.shape[-1], x.shape[-1]))
        shared = self.shared(tape, flat) if self.shared_first else None
        logits, scores, indices = self.router(tape, flat)
        self.record(tape, logits)
        out = self.experts(tape, flat, scores, indices)
        if shared is None:
            shared = self.shared(tape, flat)
        shared = e.mul(tape, e.unary_of_result(tape, "sigmoid", linear(tape, flat, self.shared_gate)), shared)
        out = e.add(tape, out, shared)
        del logits
        return out.as_shape(x.shape)


class SharedMoe(Qwen3Moe):
    """A mixture with an expert that every token goes to, as its gate says."""

    adds_shared: ClassVar[bool] = True

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """Qwen2MoeSparseMoeBlock."""
        width = number(config, "shared_expert_intermediate_size")
        return SharedBlock(
            router=self.router(build, config, name),
            experts=self.build_experts(build, name, self.expert_width(config)),
            shared=GatedMlp.of(build, f"{name}.shared_expert", self.hidden, width, self.activation, bias=False),
            shared_gate=build.linear(f"{name}.shared_expert_gate", self.hidden, 1),
            shared_first=self.fused,
            record=self.record,
        )


class Qwen2Moe(OwnAttention, SharedMoe):
    """Qwen2MoeForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "sliding_window": 4096,
    }
    builds_both_masks: ClassVar[bool] = True
    converts_targets: ClassVar[bool] = False
    returns_logits: ClassVar[bool] = True

    def _kinds(self, config: Config) -> Sequence[Kind]:
        """Every second of the first `max_window_layers` slides; without windows one of no width is masked for."""
        slides = bool(config.get("use_sliding_window", False))
        limit = number(config, "max_window_layers", default=28)
        if not slides:
            self.window = 0 if self.fused else None
        if not self.fused:
            types: Sequence[str] = (FULL,) * self.count
        else:
            types = attention_types(config, self.count, lambda at: slides and at < limit and (at + 1) % 2 == 1)
        return tuple([Kind(kind, sparse=self.is_sparse(config, at)) for at, kind in enumerate(types)])

    def _layer(self, build: Builder, config: Config, name: str) -> Layer:
        if not self.fused:
            build.buffer(4 * self.head_size // 2)  # every attention had rotary frequencies, which none used
        return super()._layer(build, config, name)

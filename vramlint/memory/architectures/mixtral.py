"""Mixtral: llama with a choice of experts in every layer (transformers 5.23 models/mixtral)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, number, ratio
from vramlint.memory.architectures.feed_forward import FeedForward
from vramlint.memory.architectures.mixture import Block, Mixture
from vramlint.memory.ops.routing import SoftmaxRouter
from vramlint.memory.weights import Builder


class Mixtral(Mixture):
    """MixtralForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"mixtral": ("q_proj", "v_proj")}
    module: ClassVar[str] = "block_sparse_moe"
    parts: ClassVar[tuple[str, str, str]] = ("w1", "w3", "w2")

    def expert_width(self, config: Config) -> int:
        """The width that dense models have."""
        return number(config, "intermediate_size")

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """MixtralSparseMoeBlock. The weights stay in float32 where experts are fused."""
        gate = self.gate(build, name)
        router = SoftmaxRouter(gate, self.chosen, normalises=True, lowers="" if self.fused else "input")
        jitters = ratio(config, "router_jitter_noise", default=0.0) > 0
        return Block(router, self.build_experts(build, name, self.expert_width(config)), self.record, jitters)

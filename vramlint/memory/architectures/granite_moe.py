"""Granite MoE: Granite's multipliers and a choice of experts (transformers 5.23 models/granitemoe)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.feed_forward import FeedForward
from vramlint.memory.architectures.granite import Granite
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING
from vramlint.memory.architectures.mixture import Block, Mixture
from vramlint.memory.architectures.own_attention import own_mask
from vramlint.memory.ops.expert_loops import ParallelExperts
from vramlint.memory.ops.routing import TopLogitsRouter
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class GraniteMoe(Mixture, Granite):
    """GraniteMoeForCausalLM."""

    module: ClassVar[str] = "block_sparse_moe"
    fused_module: ClassVar[str] = "block_sparse_moe"
    converts_targets: ClassVar[bool] = False
    widens_logits_until: ClassVar[tuple[int, ...]] = (5, 0)
    returns_logits: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        if config.get("position_embedding_type", "rope") != "rope":
            raise NotFollowedError("attention without positions")
        super().__init__(build, config)

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """GraniteMoeMoE."""
        width, hidden = number(config, "intermediate_size"), self.hidden
        if self.fused:
            router = TopLogitsRouter(build.target(f"{name}.router.weight", (self.experts, hidden)), self.chosen)
            return Block(router, self.build_experts(build, name, width), self.record)
        router = TopLogitsRouter(build.linear(f"{name}.router.layer", hidden, self.experts), self.chosen)
        experts = ParallelExperts(
            build.parameter(f"{name}.input_linear.weight", (self.experts, 2 * width, hidden)),
            build.parameter(f"{name}.output_linear.weight", (self.experts, hidden, width)),
            self.activation,
        )
        return Block(router, experts, self.record)

    def masks(self, tape: Tape, regime: Regime, embedded: Tensor) -> Mapping[str, Tensor | None]:
        """Before the experts were fused the model made its own mask."""
        if self.fused:
            return super().masks(tape, regime, embedded)
        return dict.fromkeys((FULL, SLIDING), own_mask(tape, regime, embedded, None))

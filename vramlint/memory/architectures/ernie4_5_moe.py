"""ERNIE 4.5 MoE: the dense model's attention, experts in some layers (transformers 5.23 models/ernie4_5_moe)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.ernie4_5 import Ernie45
from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.feed_forward import FeedForward, GatedMlp
from vramlint.memory.architectures.mixture import JoinedBlock, Mixture
from vramlint.memory.ops.linear import Weights
from vramlint.memory.ops.routing import BiasedSoftmaxRouter
from vramlint.memory.weights import Builder


class Ernie45Moe(Mixture, Ernie45):
    """Ernie4_5_MoeForCausalLM."""

    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 2560,
        "intermediate_size": 12288,
        "num_hidden_layers": 28,
        "num_attention_heads": 20,
        "num_key_value_heads": 4,
        "vocab_size": 103424,
        "tie_word_embeddings": True,
        "moe_intermediate_size": 1536,
        "moe_k": 6,
        "moe_num_experts": 64,
    }
    counts: ClassVar[tuple[str, ...]] = ("moe_num_experts", "num_experts")
    has_biases: ClassVar[bool] = True
    adds_shared: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        config = {**self.defaults, **config}
        chosen = number(config, "moe_k", "num_experts_per_tok")
        super().__init__(build, {**config, "num_experts_per_tok": chosen, "mlp_bias": config.get("use_bias", False)})

    def build_head(
        self, build: Builder, config: Config, name: str, width: int, vocabulary: int, *, ties: bool, bias: bool = False
    ) -> Weights:
        """The head has a bias too if the others have."""
        return super().build_head(build, config, name, width, vocabulary, ties=ties, bias=bias or self.biases)

    def is_sparse(self, config: Config, position: int) -> bool:
        """Every `moe_layer_interval`-th layer between two."""
        last = number(config, "moe_layer_end_index", default=-1)
        last = self.count - 1 if last == -1 else last
        first, interval = (
            number(config, "moe_layer_start_index", default=1),
            number(config, "moe_layer_interval", default=1),
        )
        return (position + 1) % interval == 0 and first <= position <= last

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """Ernie4_5_MoeSparseMoeBlock."""
        width = self.expert_width(config)
        statics = f"{name}.gate.moe_statics" if self.fused else f"{name}.moe_statics"
        router = BiasedSoftmaxRouter(
            build.target(f"{name}.gate.weight", (self.experts, self.hidden), wide=True)
            if self.fused
            else build.linear(f"{name}.gate", self.hidden, self.experts, wide=True),
            build.parameter(
                f"{statics}.e_score_correction_bias", (1, self.experts), decay=False, wide=True, fixed=True
            ),
            self.chosen,
        )
        experts = self.build_experts(build, name, width)
        width *= number(config, "moe_num_shared_experts", default=2)
        shared = None
        if width:
            shared = GatedMlp.of(build, f"{name}.shared_experts", self.hidden, width, self.activation, bias=self.biases)
        return JoinedBlock(router, experts, shared, self.record)

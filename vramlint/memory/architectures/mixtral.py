"""Mixtral and Qwen3-MoE: llama with a choice of experts (transformers 5.23 models/{mixtral,qwen3_moe})."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.feed_forward import FeedForward
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.ops.experts import ExpertModule, FusedExperts, Router, looped
from vramlint.memory.ops.linear import Weights
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder, NotFollowedError

FUSED_FROM = (5, 0)
"""Since then the experts of a layer are two tensors; before it every expert was a module of linear layers."""


@dataclass(slots=True)
class FusedBlock:
    """…SparseMoeBlock of transformers 5."""

    router: Router
    experts: FusedExperts

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Route every token, run the experts, add up."""
        flat = x.as_shape((x.numel // x.shape[-1], x.shape[-1]))
        scores, indices = self.router(tape, flat)
        return self.experts(tape, flat, scores, indices).as_shape(x.shape)


@dataclass(slots=True)
class LoopedBlock:
    """…SparseMoeBlock of transformers 4."""

    router: Router
    experts: Sequence[ExpertModule]

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Route every token, run one expert after the other."""
        flat = x.as_shape((x.numel // x.shape[-1], x.shape[-1]))
        scores, indices = self.router(tape, flat)
        out = looped(tape, self.experts, flat, scores)
        del indices
        return out.as_shape(x.shape)


class Mixtral(Llama):
    """MixtralForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"mixtral": ("q_proj", "v_proj")}
    module: ClassVar[str] = "block_sparse_moe"
    """Name of the block before the experts were fused."""
    parts: ClassVar[tuple[str, str, str]] = ("w1", "w3", "w2")
    """Names of an expert's gate, up and down then."""
    lowers_scores: ClassVar[bool] = False
    """Whether the fused block's router casts its weights back."""

    def _expert_width(self, config: Config) -> int:
        return number(config, "intermediate_size")

    def _normalises(self, config: Config) -> bool:
        return True

    def _mlp(self, build: Builder, config: Config, name: str) -> FeedForward:
        count = number(config, "num_local_experts", "num_experts")
        width, chosen = self._expert_width(config), number(config, "num_experts_per_tok")
        if build.transformers >= FUSED_FROM:
            gate = Weights(build.parameter(f"{name}.gate.weight", (count, self.hidden)))
            experts = FusedExperts(
                gate_up=build.fused_experts(
                    f"{name}.experts.gate_up_proj", (count, 2 * width, self.hidden), self.parts[:2]
                ),
                down=build.fused_experts(f"{name}.experts.down_proj", (count, self.hidden, width), self.parts[2:]),
            )
            return FusedBlock(Router(gate, chosen, self._normalises(config), self.lowers_scores), experts)
        name = f"{name.removesuffix('mlp')}{self.module}"
        router = Router(build.linear(f"{name}.gate", self.hidden, count), chosen, self._normalises(config), lowers=True)
        return LoopedBlock(router, [self._expert(build, width, f"{name}.experts.{i}") for i in range(count)])

    def _expert(self, build: Builder, width: int, name: str) -> ExpertModule:
        gate, up, down = self.parts
        return ExpertModule(
            gate=build.linear(f"{name}.{gate}", self.hidden, width),
            up=build.linear(f"{name}.{up}", self.hidden, width),
            down=build.linear(f"{name}.{down}", width, self.hidden),
        )


class Qwen3Moe(Mixtral):
    """Qwen3MoeForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    module: ClassVar[str] = "mlp"
    parts: ClassVar[tuple[str, str, str]] = ("gate_proj", "up_proj", "down_proj")
    lowers_scores: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        if number(config, "decoder_sparse_step", default=1) != 1 or config.get("mlp_only_layers"):
            raise NotFollowedError("a mixture of dense and sparse layers")
        super().__init__(build, config)

    def _expert_width(self, config: Config) -> int:
        return number(config, "moe_intermediate_size")

    def _normalises(self, config: Config) -> bool:
        return bool(config.get("norm_topk_prob", False))

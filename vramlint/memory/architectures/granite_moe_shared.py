"""Granite MoE with an MLP that every token takes, too (transformers 5.23 models/granitemoeshared)."""

from __future__ import annotations

from msgspec import Struct

from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.feed_forward import FeedForward, FusedMlp
from vramlint.memory.architectures.granite_moe import GraniteMoe
from vramlint.memory.ops import elementwise as e
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class BesideExperts(Struct):
    """The choice of experts and the MLP beside it."""

    experts: FeedForward
    shared: FusedMlp
    lingers: bool
    """The layer has the experts' output named until it returns."""

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        """Map [B, S, H] to [B, S, H]."""
        chosen = self.experts(tape, x)
        out = e.add(tape, chosen, self.shared(tape, x))
        if self.lingers:
            tape.held.append(chosen)
        return out


class GraniteMoeShared(GraniteMoe):
    """GraniteMoeSharedForCausalLM."""

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """GraniteMoeMoE and GraniteMoeSharedMLP; transformers 4.57 deleted the experts' output."""
        experts = super().block(build, config, name)
        width = number(config, "shared_intermediate_size", default=1024)
        if not width:
            return experts
        beside = f"{name.removesuffix(self.module)}shared_mlp"
        shared = FusedMlp(
            build.linear(f"{beside}.input_linear", self.hidden, 2 * width),
            build.linear(f"{beside}.output_linear", width, self.hidden),
            self.activation,
        )
        return BesideExperts(experts, shared, lingers=self.fused)

"""GPT-OSS: windows in every second layer, attention sinks, experts with biases (transformers 5.23 models/gpt_oss)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec.structs import asdict, replace

from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config, LayerNorm, number
from vramlint.memory.architectures.feed_forward import FeedForward
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING, Kind, attention_types
from vramlint.memory.architectures.llama import Norm
from vramlint.memory.architectures.mixture import Block, Mixture
from vramlint.memory.ops.clamped_experts import SlicedExperts, clamped_gate
from vramlint.memory.ops.experts import Experts
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.norm import rms_norm_scaled_wide
from vramlint.memory.ops.rotary import Rotary, rotary, rotate_halves
from vramlint.memory.ops.routing import ChosenLogitsRouter
from vramlint.memory.ops.sinks import eager_with_sinks
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class Layer(llama.Layer):
    """Weights of one decoder layer."""

    sinks: Parameter


class GptOss(Mixture):
    """GptOssForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Mapping[str, object]] = {
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 201088,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "attention_bias": True,
    }
    converts_targets: ClassVar[bool] = False
    builds_both_masks: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        if build.implementation not in ("eager", "sdpa"):
            raise NotFollowedError(f"attention with sinks by {build.implementation}")
        super().__init__(build, config)

    def _kinds(self, config: Config) -> Sequence[Kind]:
        types = attention_types(config, self.count, lambda index: index % 2 == 0)
        return tuple([Kind(attention, sparse=True) for attention in types])

    def _norm(self, build: Builder, name: str) -> Norm:
        return build.norm(f"{name}.weight", self.hidden, kept=True)

    def _layer(self, build: Builder, config: Config, name: str) -> llama.Layer:
        base = super()._layer(build, config, name)
        return Layer(
            **asdict(base),
            sinks=build.parameter(f"{name}.self_attn.sinks", (self.heads,)),
        )

    def block(self, build: Builder, config: Config, name: str) -> FeedForward:
        """GptOssMLP."""
        weight = build.parameter(f"{name}.router.weight", (self.experts, self.hidden))
        bias = build.parameter(f"{name}.router.bias", (self.experts,), decay=False)
        router = ChosenLogitsRouter(Weights(weight, bias), self.chosen, spreads=not self.fused)
        return Block(router, self.build_experts(build, name, number(config, "intermediate_size")), self.record)

    def build_experts(self, build: Builder, name: str, width: int) -> Experts:
        """Two transposed weights and their biases, in either version."""
        columns = (self.experts, self.hidden, 2 * width)
        gate_up = build.target(f"{name}.experts.gate_up_proj", columns, transposed=self.fused)
        gate_up_bias = build.parameter(f"{name}.experts.gate_up_proj_bias", (self.experts, 2 * width))
        down = build.target(f"{name}.experts.down_proj", (self.experts, width, self.hidden), transposed=self.fused)
        down_bias = build.parameter(f"{name}.experts.down_proj_bias", (self.experts, self.hidden))
        if not self.fused:
            return SlicedExperts(gate_up, gate_up_bias, down, down_bias)
        return self.fused_form(gate_up, down, clamped_gate, gate_up_bias, down_bias, transposed=True)

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """GptOssModel.forward: sdpa knows no sinks."""
        return super().hidden_states(tape, replace(regime, implementation="eager"), embedded)

    def positions(self, tape: Tape, embedded: Tensor) -> Mapping[str, Rotary]:
        """Tables for half of a head."""
        return dict.fromkeys((FULL, SLIDING), rotary(tape, embedded, self.head_size // 2))

    def rotate(self, tape: Tape, q: Tensor, k: Tensor, position: Rotary) -> tuple[Tensor, Tensor]:
        """apply_rotary_pos_emb."""
        return rotate_halves(tape, q, position), rotate_halves(tape, k, position)

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """GptOssRMSNorm."""
        return norm(tape, x) if isinstance(norm, LayerNorm) else rms_norm_scaled_wide(tape, x, norm, widens=False)

    def _attention(
        self,
        tape: Tape,
        regime: Regime,
        w: llama.Layer,
        hidden: Tensor,
        position: Rotary | None,
        mask: Tensor | None,
    ) -> Tensor:
        assert isinstance(w, Layer) and position is not None  # noqa: S101  narrowing
        q = self._projected(tape, hidden, w.q, None, self.heads)
        k = self._projected(tape, hidden, w.k, None, self.kv_heads)
        v = self._projected(tape, hidden, w.v, None, self.kv_heads)
        q, k = self.rotate(tape, q, k, position)
        if regime.use_cache:
            k, v = regime.cached(tape, k, k.dtype), regime.cached(tape, v, k.dtype)
        out = eager_with_sinks(tape, q, k, v, mask, w.sinks, self.attention_dropout, narrows=self.fused)
        return linear(tape, out, w.o)

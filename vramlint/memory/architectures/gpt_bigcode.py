"""GPT-BigCode (SantaCoder, StarCoder): GPT-2 with one key/value head (transformers 5.23 models/gpt_bigcode)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.job import Checkpointing
from vramlint.memory.architectures.family import Config, LayerNorm
from vramlint.memory.architectures.gpt2 import GPT2, Layer
from vramlint.memory.ops import attention, shaping
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

OWN_ATTENTION_UNTIL = (4, 54)
"""Before this version of transformers the model had attention classes of its own."""
CHECKPOINTED_FROM = (5, 0)
"""Between OWN_ATTENTION_UNTIL and this version blocks were not recomputed, although the model took the setting."""


class GPTBigCode(GPT2):
    """GPTBigCodeForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gpt_bigcode": ("c_attn",)}
    default_activation: ClassVar[str] = "gelu_pytorch_tanh"
    widens_softmax: ClassVar[bool] = True

    def __init__(self, build: Builder, config: Config) -> None:
        if build.transformers < OWN_ATTENTION_UNTIL:
            raise NotFollowedError("gpt_bigcode of transformers before 4.54")
        self.multi_query = bool(config.get("multi_query", True))
        super().__init__(build, config)

    def _buffers(self, build: Builder, positions: int) -> None:
        build.buffer(positions * positions)

    def _layer_buffers(self, build: Builder, positions: int) -> None:
        """None of a layer's own."""

    def _layer(self, build: Builder, inner: int, name: str) -> Layer:
        fused = self.hidden + 2 * self.hidden // (self.heads if self.multi_query else 1)
        return Layer(
            ln_1=LayerNorm.of(build, f"{name}.ln_1", self.hidden),
            c_attn=build.linear(f"{name}.attn.c_attn", self.hidden, fused, bias=True),
            attn_proj=build.linear(f"{name}.attn.c_proj", self.hidden, self.hidden, bias=True),
            ln_2=LayerNorm.of(build, f"{name}.ln_2", self.hidden),
            c_fc=build.linear(f"{name}.mlp.c_fc", self.hidden, inner, bias=True),
            mlp_proj=build.linear(f"{name}.mlp.c_proj", inner, self.hidden, bias=True),
        )

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """GPTBigCodeModel.forward."""
        if regime.transformers < CHECKPOINTED_FROM:
            regime = replace(regime, checkpointing=Checkpointing())
        return super().hidden_states(tape, regime, embedded)

    def _split(self, tape: Tape, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One key and one value for all queries, or each head's queries, keys and values beside each other."""
        size = self.hidden // self.heads
        if not self.multi_query:
            q, k, v = shaping.split_last(tape, attention.split_heads(tape, fused, self.heads), (size,) * 3)
            return q, k, v
        q, k, v = shaping.split_last(tape, fused, (self.hidden, size, size))
        q, k, v = (attention.split_heads(tape, part, heads) for part, heads in ((q, self.heads), (k, 1), (v, 1)))
        return q, k, v

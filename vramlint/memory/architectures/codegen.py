"""CodeGen: GPT-J whose queries, values and keys are one product in four parts (transformers 5.23 models/codegen)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.gptj import GPTJ, Layer
from vramlint.memory.ops import attention, shaping
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.linear import Weights, linear
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.ops.wide_attention import Scoring
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

DEVICES = 4
"""`mp_num`: heads lie in so many groups, each with its queries, values and keys side by side."""
MASKED_IN_PLACE_UNTIL = (5, 0)
"""Before this version of transformers the mask was added to the scores in place."""


class CodeGen(GPTJ):
    """CodeGenForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"codegen": ("qkv_proj",)}

    def _scoring(self, build: Builder) -> Scoring:
        return Scoring(masked_first=True, in_place=build.transformers < MASKED_IN_PLACE_UNTIL)

    def _projections(self, build: Builder, name: str) -> tuple[Weights, ...]:
        return (build.linear(f"{name}.qkv_proj", self.hidden, 3 * self.hidden),)

    def _projected(self, tape: Tape, w: Layer, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, object]:
        """Each part is copied when its groups of heads are joined."""
        qkv = linear(tape, hidden, w.projections[0])
        batch, length = hidden.shape[:2]
        grouped = shaping.viewed(tape, qkv, (batch, length, DEVICES, 3 * self.hidden // DEVICES))
        parts = shaping.split_last(tape, grouped, (self.hidden // DEVICES,) * 3)
        shape = (batch, length, self.heads, self.head_size)
        q, k = (e.clone(tape, shaping.viewed(tape, part, shape)) for part in (parts[0], parts[2]))
        v = e.clone(tape, shaping.viewed(tape, parts[1], hidden.shape))
        return q, k, attention.split_heads(tape, v, self.heads), qkv

    def _position(self, tape: Tape, length: int, dtype: str) -> tuple[Rotary, object]:
        """Float32 tables: what they rotate becomes float32."""
        half = tape.empty((1, length, 1, self.rotated), "float32", "rotary sincos")
        return Rotary(half, half), None

    def _cached(self, tape: Tape, regime: Regime, k: Tensor, v: Tensor, dtype: str) -> tuple[Tensor, Tensor]:
        k = tape.to(k, dtype)
        return super()._cached(tape, regime, k, v, dtype)

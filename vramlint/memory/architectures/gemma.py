"""Gemma: llama with a scaled embedding, tanh-gelu and unit-offset norms (transformers 5.23 models/gemma)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.embedding import embedding
from vramlint.memory.ops.norm import rms_norm_unit_offset
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder

SCALES_IN_EMBEDDING = (5, 0)
"""Since then the scale is a part of the embedding's module, and so inside of what a hook on it makes a leaf."""


class Gemma(Llama):
    """GemmaForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gemma": ("q_proj", "v_proj")}

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, {"tie_word_embeddings": True, **config})
        build.buffer(4)
        self.scales_inside = build.transformers >= SCALES_IN_EMBEDDING

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings times sqrt(hidden size)."""
        if not self.scales_inside:
            return e.linear_unary(tape, "mul", super().embed(tape, tokens))
        scaled = e.linear_unary(tape, "mul", embedding(tape, tokens, self.embedding))
        return self.as_leaf(tape, scaled)

    def normalise(self, tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
        """GemmaRMSNorm."""
        return rms_norm_unit_offset(tape, x, weight)

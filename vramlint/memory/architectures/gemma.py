"""Gemma: llama with a scaled embedding, tanh-gelu and unit-offset norms (transformers 5.23 models/gemma)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.norm import rms_norm_unit_offset
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Parameter, Tensor
from vramlint.memory.weights import Builder


class Gemma(Llama):
    """GemmaForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gemma": ("q_proj", "v_proj")}

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, {"tie_word_embeddings": True, **config})
        build.buffer(4)

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings times sqrt(hidden size)."""
        return e.linear_unary(tape, "mul", super().embed(tape, tokens))

    def normalise(self, tape: Tape, x: Tensor, weight: Parameter) -> Tensor:
        """GemmaRMSNorm."""
        return rms_norm_unit_offset(tape, x, weight)

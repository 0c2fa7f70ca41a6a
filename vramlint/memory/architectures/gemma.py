"""Gemma: llama with a scaled embedding, tanh-gelu and unit-offset norms (transformers 5.23 models/gemma)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.family import Config, LayerNorm
from vramlint.memory.architectures.llama import Llama, Norm
from vramlint.memory.ops import elementwise as e
from vramlint.memory.ops.norm import rms_norm_unit_offset
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder

SCALED_EMBEDDING_FROM = (5, 0)
"""Since then the embedding scales what it looks up; before it the body did."""


class Gemma(Llama):
    """GemmaForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gemma": ("q_proj", "v_proj")}

    scaled_embedding: ClassVar[bool] = False
    """Whether it had an embedding that scales before the others."""
    defaults: ClassVar[Mapping[str, object]] = {
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "vocab_size": 256000,
        "hidden_act": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    }

    def __init__(self, build: Builder, config: Config) -> None:
        super().__init__(build, config)
        self.scales_inside = self.scaled_embedding or build.transformers >= SCALED_EMBEDDING_FROM
        if self.scales_inside:
            build.buffer(4)

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings times sqrt(hidden size)."""
        embedded = super().embed(tape, tokens)
        return e.linear_unary(tape, "mul", embedded) if self.scales_inside else embedded

    def first_input(self, tape: Tape, embedded: Tensor) -> Tensor:
        """The same factor where the model's body applies it, which goes on naming what it was applied to."""
        return embedded if self.scales_inside else e.linear_unary(tape, "mul", embedded)

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """GemmaRMSNorm."""
        assert not isinstance(norm, LayerNorm)  # noqa: S101  narrowing: gemmas have no other norms
        return rms_norm_unit_offset(tape, x, norm)

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


class Gemma(Llama):
    """GemmaForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"gemma": ("q_proj", "v_proj")}

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
        build.buffer(4)

    def embed(self, tape: Tape, tokens: Tensor) -> Tensor:
        """Token embeddings times sqrt(hidden size)."""
        return e.linear_unary(tape, "mul", super().embed(tape, tokens))

    def normalise(self, tape: Tape, x: Tensor, norm: Norm) -> Tensor:
        """GemmaRMSNorm."""
        assert not isinstance(norm, LayerNorm)  # noqa: S101  narrowing: gemmas have no other norms
        return rms_norm_unit_offset(tape, x, norm)

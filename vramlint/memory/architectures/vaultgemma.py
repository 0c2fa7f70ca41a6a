"""VaultGemma: gemma 2 without the norms behind the blocks (transformers 5.23 models/vaultgemma)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures import llama
from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.gemma2 import Gemma2
from vramlint.memory.architectures.llama import Llama
from vramlint.memory.ops.rotary import Rotary
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Tensor
from vramlint.memory.weights import Builder


class VaultGemma(Gemma2):
    """VaultGemmaForCausalLM."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    norm_names: ClassVar[tuple[str, str]] = ("input_layernorm", "pre_feedforward_layernorm")

    def _layer(self, build: Builder, config: Config, name: str) -> llama.Layer:
        return Llama._layer(self, build, config, name)

    def _forward(
        self, tape: Tape, regime: Regime, w: llama.Layer, hidden: Tensor, position: Rotary | None, mask: Tensor | None
    ) -> Tensor:
        return Llama._forward(self, tape, regime, w, hidden, position, mask)

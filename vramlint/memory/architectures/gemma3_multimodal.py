"""Gemma 3 with its vision tower, trained on text alone (transformers 5.23 models/gemma3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec.structs import replace

from vramlint.job import Batch
from vramlint.memory.architectures.causal_lm import CausalLM
from vramlint.memory.architectures.family import Config, LayerNorm, Outputs, number
from vramlint.memory.architectures.gemma3 import Gemma3
from vramlint.memory.architectures.layer_kinds import FULL, SLIDING
from vramlint.memory.ops import shaping
from vramlint.memory.ops.selection import take_rows
from vramlint.memory.ops.softmax import cross_entropy, mark_logits
from vramlint.memory.regime import Regime
from vramlint.memory.tape import Tape
from vramlint.memory.tensor import Shape, Tensor
from vramlint.memory.weights import Builder

WANTS_TOKEN_TYPES_UNTIL = (5, 0)
"""Before it training needed token_type_ids, which force masks, and the model took its loss of shifted copies."""
VISION_STACK = 1


class Gemma3Multimodal(Gemma3):
    """Gemma3ForConditionalGeneration: text reaches neither the vision tower nor the projector."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, build: Builder, config: Config) -> None:
        text = _part(config, "text_config")
        first = len(build.inventory.parameters)
        self._vision(build, _part(config, "vision_config"), number({**self.defaults, **text}, "hidden_size"))
        for parameter in build.inventory.parameters[first:]:
            parameter.requires_grad &= build.partitions  # it may train, but no gradient ever comes
        super().__init__(build, {**text, "tie_word_embeddings": config.get("tie_word_embeddings", True)})
        self.caps_logits = False
        self.caches = bool(text.get("use_cache", True))

    def body_name(self, config: Config) -> str:
        """The language model's place."""
        return "model.language_model"

    def _vision(self, build: Builder, config: Config, width: int) -> None:
        """SiglipVisionModel and Gemma3MultiModalProjector."""
        size, inner = number(config, "hidden_size", default=768), number(config, "intermediate_size", default=3072)
        patch, channels = number(config, "patch_size", default=16), number(config, "num_channels", default=3)
        patches = (number(config, "image_size", default=224) // patch) ** 2
        name = (
            "model.vision_tower" if build.transformers >= WANTS_TOKEN_TYPES_UNTIL else "model.vision_tower.vision_model"
        )
        build.buffer(8 * patches)
        build.parameter(f"{name}.embeddings.patch_embedding.weight", (size, channels, patch, patch))
        build.parameter(f"{name}.embeddings.patch_embedding.bias", (size,), decay=False)
        build.parameter(f"{name}.embeddings.position_embedding.weight", (patches, size))
        for position in build.layers(number(config, "num_hidden_layers", default=12), stack=VISION_STACK):
            layer = f"{name}.encoder.layers.{position}"
            LayerNorm.of(build, f"{layer}.layer_norm1", size)
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                build.linear(f"{layer}.self_attn.{part}", size, size, bias=True)
            LayerNorm.of(build, f"{layer}.layer_norm2", size)
            build.linear(f"{layer}.mlp.fc1", size, inner, bias=True)
            build.linear(f"{layer}.mlp.fc2", inner, size, bias=True)
        LayerNorm.of(build, f"{name}.post_layernorm", size)
        if config.get("vision_use_head", True):
            self._pooling_head(build, f"{name}.head", size, inner)
        build.parameter("model.multi_modal_projector.mm_input_projection_weight", (size, width))
        build.norm("model.multi_modal_projector.mm_soft_emb_norm.weight", size)

    def _pooling_head(self, build: Builder, name: str, size: int, inner: int) -> None:
        """SiglipMultiheadAttentionPoolingHead."""
        build.parameter(f"{name}.probe", (1, 1, size))
        build.parameter(f"{name}.attention.in_proj_weight", (3 * size, size))
        build.parameter(f"{name}.attention.in_proj_bias", (3 * size,), decay=False)
        build.linear(f"{name}.attention.out_proj", size, size, bias=True)
        LayerNorm.of(build, f"{name}.layernorm", size)
        build.linear(f"{name}.mlp.fc1", size, inner, bias=True)
        build.linear(f"{name}.mlp.fc2", inner, size, bias=True)

    def inputs(self, batch: Batch) -> Mapping[str, tuple[Shape, str]]:
        """Text, and the token types that say that it is text."""
        plain = super().inputs(batch)
        if self.transformers >= WANTS_TOKEN_TYPES_UNTIL:
            return plain
        return {**plain, "token_type_ids": ((batch.micro_batch_size, batch.sequence_length), "int64")}

    def masks(self, tape: Tape, regime: Regime, embedded: Tensor) -> Mapping[str, Tensor | None]:
        """The causal masks, with images' own blocks where token types are given."""
        if self.transformers >= WANTS_TOKEN_TYPES_UNTIL:
            return super().masks(tape, regime, embedded)
        return {kind: regime.mask(tape, embedded, None, always=True) for kind in (FULL, SLIDING)}

    def hidden_states(self, tape: Tape, regime: Regime, embedded: Tensor) -> Tensor:
        """Gemma3Model.forward: the switch for the cache that trainers turn off is not the text's own, which is on."""
        caches = self.transformers >= WANTS_TOKEN_TYPES_UNTIL and regime.checkpointing.mode == "none"
        return super().hidden_states(tape, replace(regime, use_cache=caches and self.caches), embedded)

    def outputs(self, tape: Tape, regime: Regime, batch: Mapping[str, Tensor]) -> Outputs:
        """The shared loss, or that of the positions that are no padding."""
        if self.transformers >= WANTS_TOKEN_TYPES_UNTIL:
            return super().outputs(tape, regime, batch)
        hidden = self.last_hidden_state(tape, regime, batch)
        logits = tape.to(CausalLM.logits(self, tape, hidden), "float32")
        mark_logits(tape, logits)
        rows, length, vocabulary = logits.shape
        count = rows * (length - 1)
        kept = tape.empty((rows, length - 1), "bool", "kept positions")
        shifted = take_rows(tape, shaping.part(tape, logits, (rows, length - 1, vocabulary)), kept, (count, vocabulary))
        mark_logits(tape, shifted)
        labels = tape.empty((count,), "int64", "shifted labels")
        return Outputs(cross_entropy(tape, shifted, labels), [logits], tape.lifetimes.taken_cache())


def _part(config: Config, key: str) -> Config:
    part = config.get(key)
    return part if isinstance(part, Mapping) else {}

"""Blenderbot: positions without an offset (transformers 5.23 models/blenderbot, blenderbot_small)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.bart import Bart
from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.positions import Learned, Positions


class Blenderbot(Bart):
    """BlenderbotForConditionalGeneration."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Config] = {
        "vocab_size": 8008,
        "max_position_embeddings": 128,
        "d_model": 2560,
        "encoder_layers": 2,
        "decoder_layers": 24,
        "encoder_attention_heads": 32,
        "decoder_attention_heads": 32,
        "encoder_ffn_dim": 10240,
        "decoder_ffn_dim": 10240,
    }
    pre_norm: ClassVar[bool] = True
    positions: ClassVar[type[Positions]] = Learned
    embedding_norm: ClassVar[bool] = False
    calls_shared: ClassVar[bool] = True


class BlenderbotSmall(Bart):
    """BlenderbotSmallForConditionalGeneration."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Config] = {
        "max_position_embeddings": 512,
        "d_model": 512,
        "encoder_layers": 8,
        "decoder_layers": 8,
        "encoder_ffn_dim": 2048,
        "decoder_ffn_dim": 2048,
    }
    positions: ClassVar[type[Positions]] = Learned
    scales_behind: ClassVar[bool] = True
    calls_shared: ClassVar[bool] = True
    norms_targets: ClassVar[bool] = True

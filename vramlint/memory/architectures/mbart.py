"""mBART, M2M100 (NLLB) and PLBart: BART with other norms, positions and scales (transformers 5.23 models/mbart, …)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.bart import Bart, BartForSequenceClassification
from vramlint.memory.architectures.family import Config
from vramlint.memory.architectures.positions import Positions, SinusoidBuffer

NO_TARGETS: Mapping[str, tuple[str, ...]] = {}


class MBart(Bart):
    """MBartForConditionalGeneration: norms before attention and MLP, and behind each stack."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = NO_TARGETS
    pre_norm: ClassVar[bool] = True


class MBartForSequenceClassification(BartForSequenceClassification):
    """MBartForSequenceClassification."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = NO_TARGETS
    pre_norm: ClassVar[bool] = True
    three_labels: ClassVar[bool] = False


class M2M100(MBart):
    """M2M100ForConditionalGeneration."""

    defaults: ClassVar[Config] = {"vocab_size": 128112, "activation_function": "relu", "attention_dropout": 0.1}
    positions: ClassVar[type[Positions]] = SinusoidBuffer
    embedding_norm: ClassVar[bool] = False
    logits_bias: ClassVar[bool] = False
    caches: ClassVar[bool] = True


PLBART: Config = {
    "vocab_size": 50005,
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
    "attention_dropout": 0.1,
}


class PLBart(Bart):
    """PLBartForConditionalGeneration."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = NO_TARGETS
    defaults: ClassVar[Config] = PLBART
    caches: ClassVar[bool] = True


class PLBartForSequenceClassification(BartForSequenceClassification):
    """PLBartForSequenceClassification."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = NO_TARGETS
    defaults: ClassVar[Config] = PLBART
    three_labels: ClassVar[bool] = False

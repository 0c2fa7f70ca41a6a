"""Marian and Pegasus: sinusoids in a parameter that does not train (transformers 5.23 models/marian, pegasus)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from vramlint.memory.architectures.bart import HOOKED_EMBEDDINGS_FROM, Bart
from vramlint.memory.architectures.family import Config, number
from vramlint.memory.architectures.positions import Positions, Sinusoids
from vramlint.memory.weights import Builder


class Marian(Bart):
    """MarianMTModel: source and target can have vocabularies of their own."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    defaults: ClassVar[Config] = {"vocab_size": 58101}
    positions: ClassVar[type[Positions]] = Sinusoids
    embedding_norm: ClassVar[bool] = False
    scales_behind: ClassVar[bool] = True
    calls_shared: ClassVar[bool] = True

    def build_embeddings(self, build: Builder, config: Config) -> None:
        """One table, or one for each stack; the head has the decoder's."""
        if config.get("share_encoder_decoder_embeddings", True):
            super().build_embeddings(build, config)
            return
        targets = number(config, "decoder_vocab_size", default=self.vocabulary)
        shape = (self.vocabulary, self.hidden)
        self.source_embedding = build.parameter("model.encoder.embed_tokens.weight", shape)
        self.target_embedding = build.parameter("model.decoder.embed_tokens.weight", (targets, self.hidden))
        self.embedding = self.source_embedding
        self.targets_hooked = build.transformers >= HOOKED_EMBEDDINGS_FROM


class Pegasus(Bart):
    """PegasusForConditionalGeneration."""

    default_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    pre_norm: ClassVar[bool] = True
    positions: ClassVar[type[Positions]] = Sinusoids
    embedding_norm: ClassVar[bool] = False
    scales_behind: ClassVar[bool] = True
    calls_shared: ClassVar[bool] = True

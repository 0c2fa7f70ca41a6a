"""Models that a configuration defines by their sizes, as the config.json of the transformers model that is nearest."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.job import ConfigValue
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.model_config import table_of

Sizes = Mapping[str, ConfigValue]
"""Keys of a config.json; what is None is left out."""


def define(config: Config, sizes: Sizes) -> None:
    """Hand on the model's sizes, from which its job is built."""
    config.draft.tables.append(("model-config", table_of(sizes)))


def padded(tokens: int, multiple: int) -> int:
    """A vocabulary filled up to a multiple, as Megatron does for every GPU that shares the embeddings."""
    return -(-tokens // max(multiple, 1)) * max(multiple, 1)

"""Models that a configuration defines by their sizes, as the config.json of the transformers model that is nearest."""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.job import ConfigValue
from vramlint.surfaces.frameworks.framework import Config
from vramlint.values import Entry, Items, Scalar, Table, Value

Sizes = Mapping[str, ConfigValue]
"""Keys of a config.json; what is None is left out."""


def define(config: Config, sizes: Sizes) -> None:
    """Hand on the model's sizes, from which its job is built."""
    config.draft.tables.append(("model-config", table_of(sizes)))


def table_of(sizes: Sizes) -> Table:
    """Keys and values that no file writes, as a table; what is None is left out."""
    return Table(tuple([Entry(key, None, _value(value)) for key, value in sizes.items() if value is not None]))


def _value(value: ConfigValue) -> Value:
    if isinstance(value, Mapping):
        return table_of(value)
    if isinstance(value, tuple):
        return Items(tuple([_value(item) for item in value]))
    return Scalar(value)


def padded(tokens: int, multiple: int) -> int:
    """A vocabulary filled up to a multiple, as Megatron does for every GPU that shares the embeddings."""
    return -(-tokens // max(multiple, 1)) * max(multiple, 1)

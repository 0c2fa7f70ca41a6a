"""What frameworks that extend transformers' TrainingArguments take over from it: its keys, its files."""

from __future__ import annotations

from collections.abc import Collection

from vramlint.surfaces.frameworks.framework import Config, Row
from vramlint.surfaces.keys import rows


def trainer_rows(without: Collection[str] = ()) -> tuple[Row, ...]:
    """The rows of TrainingArguments.

    Args:
        without: keys that mean something else in the framework, or that it does not have.
    """
    return tuple(
        [Row(row.key, row.fact, row.converter) for row in rows("training-arguments").values() if row.key not in without]
    )


def trained_by_trainer(config: Config) -> None:
    """The Trainer of transformers, or a subclass, runs the loop, and takes its own files for DeepSpeed and FSDP."""
    config.derive("loop", "trainer", f"{config.framework.title} trains with the Trainer of transformers")
    config.link("deepspeed", "deepspeed")
    config.link("fsdp", "fsdp_config")

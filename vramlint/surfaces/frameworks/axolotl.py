"""Axolotl's YAML (axolotl 0.12, utils/schemas/config.py, utils/config/__init__.py, loaders/model.py)."""

from __future__ import annotations

from vramlint.surfaces.frameworks.framework import Config, Framework, Row

_ROWS = (
    Row("base_model", "model", "text"),
    Row("sequence_len", "sequence_length", "count"),
    Row("micro_batch_size", "micro_batch_size", "count"),
    Row("gradient_accumulation_steps", "gradient_accumulation_steps", "count"),
    Row("optimizer", "optimizer", "name"),
    Row("gradient_checkpointing", "activation_checkpointing", "switch"),
    Row("lora_r", "lora_r", "count"),
    Row("lora_alpha", "lora_alpha", "number"),
    Row("lora_dropout", "lora_dropout", "number"),
)


def _complete(config: Config) -> None:
    config.derive("loop", "trainer", "Axolotl trains with the Trainer of transformers")
    adapter = config.text("adapter")
    config.state("tuning", adapter or "full", "adapter")
    config.derive("objective", "sft", "no other objective is asked for")
    config.link("deepspeed", "deepspeed")


FRAMEWORK = Framework("axolotl", "Axolotl", "axolotl", _ROWS, _complete)

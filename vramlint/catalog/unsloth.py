"""What Unsloth does with which model: unsloth 2026.8.7 models/{loader,mapper,llama}.py."""

from __future__ import annotations

from vramlint.catalog.lines import lines

KERNELS = "unsloth"
"""`Job.kernels` with Unsloth's."""
FAST = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma"})
"""Model types whose layers run through Unsloth's own forward (models/llama.py and its relatives) that is followed."""


def dynamic_checkpoint(name: str) -> str:
    """The checkpoint with some layers in 16 bits that Unsloth loads for a model in 4 bits; empty where it has none."""
    if name.lower().endswith("-unsloth-bnb-4bit"):
        return name
    return next((checkpoint for _, checkpoint in lines("unsloth.tsv").starting_with(name)), "")

"""litgpt's subcommands: what each trains, and what differs between them (litgpt 0.5.13 __main__.py, finetune/*.py)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.launch.framework_programs import PROGRAM, WORDS
from vramlint.surfaces.litgpt import TARGETS
from vramlint.values import Items, Scalar


class Script(NamedTuple):
    """One subcommand."""

    tuning: str
    objective: str = "sft"
    micro_batch_size: int = 1
    global_batch_size: int = 16
    devices: int | str = 1
    fsdp: str = "full_shard"
    fsdp_version: int = 1
    checkpoints: bool = True
    """Blocks are recomputed where several GPUs share the model."""


SCRIPTS: Mapping[str, Script] = MappingProxyType(
    {
        "finetune": Script("lora", fsdp_version=2),
        "finetune_lora": Script("lora", fsdp_version=2),
        "finetune_lora_legacy": Script("lora"),
        "finetune_full": Script("full"),
        "finetune_adapter": Script("adaption_prompt"),
        "finetune_adapter_v2": Script("adapter_v2"),
        "pretrain": Script("full", "pretrain", 4, 512, "auto", "hybrid_shard", checkpoints=False),
    }
)
"""Subcommands, what they train, and the defaults that differ between them. PEFT calls litgpt's first kind of adapter
adaption prompts; the second, biases and scales of every linear layer, it does not have."""

PRETRAINING = ("model_name", "model_config", "initial_checkpoint_dir", "tokenizer_dir")
"""Keys of litgpt/pretrain.py alone."""
LORA: Mapping[str, int | float] = MappingProxyType({"lora_r": 8, "lora_alpha": 16, "lora_dropout": 0.05})
"""Keys of litgpt/finetune/lora.py alone, and their defaults there."""
FLAGS = tuple([flag for flag, _ in TARGETS])
"""Its switches."""


def subcommand(config: Config) -> str:
    """The subcommand: as started (`litgpt finetune lora` before 0.4), else by the keys."""
    words = config.text(PROGRAM).replace("/", ".").removesuffix(".py").split()
    if words:
        parts = words[-1].split(".")
        last = "_".join(part for part in parts[-2:] if part != "litgpt") if len(words) == 1 else words[1]
        kind = positional(config, 0)
        if last == "finetune" and f"finetune_{kind}" in SCRIPTS:
            last = f"finetune_{kind}"
        if last in SCRIPTS:
            return last
    if any(config.given(key) for key in PRETRAINING):
        return "pretrain"
    if any(config.given(key) for key in (*LORA, *FLAGS)):
        return "finetune_lora"
    return "finetune_full"


def positional(config: Config, number: int) -> str:
    """A word of the command line in front of its options."""
    words = config.value(WORDS)
    found = words.values[number] if isinstance(words, Items) and len(words.values) > number else None
    return str(found.value) if isinstance(found, Scalar) else ""


def words(config: Config) -> tuple[str, ...]:
    """The words in front of the options, those aside that only run time knows or that name a subcommand."""
    given = config.value(WORDS)
    known = [str(word.value) for word in given.values if isinstance(word, Scalar)] if isinstance(given, Items) else []
    kinds = {name.removeprefix("finetune_") for name in SCRIPTS}
    return tuple([word for word in known if word not in kinds])


def since(config: Config, release: tuple[int, ...]) -> bool:
    """Whether the run's release of litgpt is that or later; the newest where none is known."""
    return config.release is None or config.release >= release

"""What TRL's trainers do to a quantized model before they train its adapters."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from vramlint.resolve.board import Board

PREPARES_UNTIL: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"DPOConfig": (0, 29), "RLOOConfig": (0, 27), "": (0, 26)}
)
"""Before this version the trainers prepared the model for k-bit training themselves; since then they make what trains
bfloat16 instead (trl/models/utils.py, trl/trainer/*_trainer.py). The last is that of all others."""
NORMS_ALONE_FROM = (0, 25)
"""Since this version a preparation of TRL's own widened the norms alone."""
WITH_THE_OWN = frozenset({"SFTConfig", "GRPOConfig"})
"""Trainers that took that one."""
BITSANDBYTES = frozenset({"nf4", "fp4", "int8"})


class Preparation(Enum):
    """What becomes of the model."""

    NONE = "none"
    WIDENS = "widens"
    """Norms, embeddings and heads become float32; with bf16 over 4 bits embeddings and heads bfloat16 again."""
    WIDENS_NORMS = "widens norms"
    NARROWS = "narrows"
    """Everything that trains becomes bfloat16."""


def preparation(board: Board) -> Preparation:
    """By the trainer and its version."""
    trainer, version = board.setting.trl, board.setting.libraries.trl
    if not trainer or board.value("quantization_type") not in BITSANDBYTES:
        return Preparation.NONE
    if version >= PREPARES_UNTIL.get(trainer, PREPARES_UNTIL[""]):
        return Preparation.NARROWS
    if board.value("adapter_by_trainer") is not True and not board.setting.recipe:
        return Preparation.NONE  # a model that has its adapter already is left alone
    own = version >= NORMS_ALONE_FROM and trainer in WITH_THE_OWN
    return Preparation.WIDENS_NORMS if own else Preparation.WIDENS

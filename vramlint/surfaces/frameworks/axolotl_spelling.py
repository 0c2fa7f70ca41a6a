"""Changes in Axolotl's words, where they are said by several keys: adapters, a 4-bit base.

axolotl 0.18 utils/schemas/{peft,model}.py, loaders/adapter.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Beside, Held
from vramlint.values import Plain

RANK, ALPHA = 16, 32
"""Of adapters that are new: the rank of plans, and an alpha of twice that."""
_SCALES = ("lora_r", "lora_alpha")
_TARGETS = ("lora_target_linear", "lora_target_modules", "lora_target_parameters")


def spelled_tuning(value: FactValue, beside: Beside) -> Mapping[str, Held] | None:
    """LoRA, on a 4-bit base too, of all linear layers where the file has nothing else to say; None of other methods."""
    if value not in ("lora", "qlora"):
        return None
    keys: dict[str, Held] = {"adapter": value}
    if value == "qlora":
        keys["load_in_4bit"] = True
    if beside.table.get("adapter") is not None:
        return keys
    keys |= {key: number for key, number in zip(_SCALES, (RANK, ALPHA), strict=True) if beside.table.get(key) is None}
    if all(beside.table.get(key) is None for key in _TARGETS):
        keys["lora_target_linear"] = True
    return keys


def spelled_bits(value: FactValue) -> Mapping[str, Plain] | None:
    """A base of 4 bits."""
    return {"load_in_4bit": True} if value == 4 and not isinstance(value, bool) else None


def spelled_targets(value: FactValue) -> Mapping[str, Plain] | None:
    """All linear layers."""
    return {"lora_target_linear": True} if value == "all-linear" else None


def spelled_rank(value: FactValue) -> Mapping[str, Plain] | None:
    """The rank of adapters."""
    return {"lora_r": value} if isinstance(value, int) and not isinstance(value, bool) else None

"""The way back for LLaMA-Factory: what changes are called in its files.

llamafactory 0.9.5 hparams/finetuning_args.py and hparams/parser.py, which refuse some keys beside others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Beside, Held
from vramlint.values import Plain, Scalar

_FULL_ONLY = ("use_galore", "use_apollo", "use_badam")
"""Optimizers that train no adapters."""


def _bits(value: FactValue) -> Mapping[str, Plain] | None:
    return {"quantization_bit": value} if value in (4, 8) and isinstance(value, int) else None


def _bits_beside(value: FactValue, beside: Beside) -> Mapping[str, Held] | None:
    return None if _is_on(beside, "fp8") else _bits(value)


def _tuned(value: FactValue) -> Mapping[str, Plain] | None:
    return {"finetuning_type": value} if value in ("full", "lora") and isinstance(value, str) else None


def _tuned_beside(value: FactValue, beside: Beside) -> Mapping[str, Held] | None:
    refused = value == "lora" and any(_is_on(beside, key) for key in _FULL_ONLY)
    return None if refused else _tuned(value)


def _is_on(beside: Beside, key: str) -> bool:
    held = beside.table.get(key)
    return isinstance(held, Scalar) and held.value is True


def _not(value: FactValue) -> Mapping[str, Plain] | None:
    return {"disable_gradient_checkpointing": not value} if isinstance(value, bool) else None


def _packed(value: FactValue) -> Mapping[str, Plain] | None:
    return {"packing": value} if isinstance(value, bool) else None


def _all_linear(value: FactValue) -> Mapping[str, Plain] | None:
    return {"lora_target": "all"} if value == "all-linear" else None


def _spelled_liger(value: FactValue) -> Mapping[str, Plain] | None:
    return {"enable_liger_kernel": value} if isinstance(value, bool) else None


def _rank(value: FactValue) -> Mapping[str, Plain] | None:
    return {"lora_rank": value} if isinstance(value, int) else None


SPELLED: Mapping[str, Callable[[FactValue], Mapping[str, Plain] | None]] = {
    "quantization_bits": _bits,
    "tuning": _tuned,
    "activation_checkpointing": _not,
    "packing": _packed,
    "lora_r": _rank,
    "lora_target_modules": _all_linear,
    "fused_loss": _spelled_liger,
}
SPELLED_BESIDE: Mapping[str, Callable[[FactValue, Beside], Mapping[str, Held] | None]] = {
    "quantization_bits": _bits_beside,
    "tuning": _tuned_beside,
}
"""What depends on the rest of the file, where there is one."""

"""Axolotl's attention: `attention_implementation`, the switches that it took the place of, and what each needs.

axolotl 0.19 utils/schemas/config.py, utils/schemas/enums.py and utils/schemas/validation.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.framework import Beside, Config, Gone, Held
from vramlint.values import Scalar, Table

_BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "xformers_attention": "xformers",
        "sage_attention": "sage",
        "flex_attention": "flex_attention",
        "flash_attention": "flash_attention_2",
        "sdp_attention": "sdpa",
        "eager_attention": "eager",
    }
)
"""Deprecated switches in the order in which they count (utils/schemas/enums.py, LEGACY_ATTN_FLAG_TO_IMPL)."""

_ONLY: Mapping[str, str] = MappingProxyType(
    {
        "gemma4_hybrid_attn_impl": "flash_attention_2",
        "scaling_softmax": "flex_attention",
        "context_parallel_size": "flash_attention_2",
        "sequence_parallel_degree": "flash_attention_2",
    }
)
"""Keys with which axolotl refuses every implementation but one; of a number any that is more than 1."""


def attention(config: Config) -> None:
    """The implementation by the deprecated switches, or by what has its own."""
    if config.given("attn_implementation"):
        return
    for key, backend in _BACKENDS.items():
        if config.on(key):
            config.state("attention_implementation", backend, key)
            return
    if config.on("gemma4_hybrid_attn_impl"):
        config.derive(
            "attention_implementation", "flash_attention_2", "the hybrid has flash attention", "gemma4_hybrid_attn_impl"
        )


def spelled_attention(value: FactValue, beside: Beside) -> Mapping[str, Held] | None:
    """The key, without the switches, which axolotl refuses beside it; None where something else needs another one."""
    table = beside.table
    if not isinstance(value, str) or any(_is_on(table, key) and value != only for key, only in _ONLY.items()):
        return None
    return {"attn_implementation": value, **{key: Gone.KEY for key in _BACKENDS if _is_on(table, key)}}


def _is_on(table: Table, key: str) -> bool:
    held = table.get(key)
    value = held.value if isinstance(held, Scalar) else None
    return value is True or (isinstance(value, int) and value > 1)

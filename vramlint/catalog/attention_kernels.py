"""Which attention the classes of a model type have in a release of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.catalog.lines import lines
from vramlint.catalog.versions import Version, at_least, version_of

CHOSEN_FROM = (4, 36)
"""Since then `from_pretrained` takes `attn_implementation` (modeling_utils.py, _autoset_attn_implementation)."""
_COLUMNS: Mapping[str, int] = MappingProxyType({"sdpa": 0, "flash_attention_2": 1})


def supports(model_type: str, implementation: str, transformers: Version) -> bool | None:
    """Whether classes of a model type take an implementation, which raises a ValueError where they do not.

    Args:
        model_type: of config.json.
        implementation: sdpa or flash_attention_2; others are any model's.
        transformers: the release.

    Returns:
        None for model types that are not transformers' own.
    """
    column = _COLUMNS.get(implementation)
    if column is None:
        return True
    for _, *since in lines("attention_kernels.tsv").starting_with(model_type):
        first = since[column]
        return bool(first) and at_least(transformers, max(CHOSEN_FROM, version_of(first)))
    return None

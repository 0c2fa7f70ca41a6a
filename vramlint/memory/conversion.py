"""Adapters on experts that transformers 5 fused, wanted by the names that their modules had before.

What PEFT makes of them: peft 0.21 utils/transformers_weight_conversion.py, _convert_peft_config_moe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from vramlint.job import Adapter
from vramlint.memory.adapters import targets
from vramlint.memory.refusal import NotFollowedError
from vramlint.memory.weights import Builder

PATHS = ("mlp", "mlp.experts")
"""Where such modules were in a layer."""


def convert_targets(build: Builder, names: Mapping[str, Sequence[str]]) -> None:
    """Give the adapter's targets among fused modules to the parameters that they became.

    `names` are the modules' names by parameter.

    Raises:
        NotFollowedError: PEFT refuses, or the targets are a pattern that finds such a module.
    """
    adapted = build.adapted
    adapter = adapted.adapter
    if adapter is None:
        return
    wanted = adapter.target_modules
    if wanted is None:
        raise NotFollowedError("an adapter without target_modules, which PEFT refuses for fused experts,")
    old = frozenset([name for group in names.values() for name in group])
    if isinstance(wanted, str) and wanted != "all-linear":
        if any(targets(adapter, (), f"model.layers.0.{path}.{name}", head=False) for path in PATHS for name in old):
            raise NotFollowedError("a pattern that targets fused experts")
        return
    adapted.fused_ranks = _ranks(adapter, names)
    adapted.fused_names = old
    if not isinstance(wanted, str):
        kept = tuple([target for target in wanted if target.rpartition(".")[2] not in old])
        adapted.adapter = replace(adapter, target_modules=kept)


def _ranks(adapter: Adapter, names: Mapping[str, Sequence[str]]) -> Mapping[str, int]:
    """The rank on each parameter of which a module is wanted: what those of its modules add up to."""
    wanted = adapter.target_modules
    last = None if isinstance(wanted, str) else {target.rpartition(".")[2] for target in wanted or ()}
    ranks: dict[str, int] = {}
    for parameter, group in names.items():
        found = [name for name in group if last is None or name in last]
        if found and len(found) < len(group):
            raise NotFollowedError(f"an adapter on {', '.join(sorted(found))} without the rest of {parameter}")
        if found:
            ranks[parameter] = adapter.r * len(group)
    if ranks and (adapter.dropout or adapter.dora):
        raise NotFollowedError("dropout or DoRA in an adapter on fused experts, which PEFT refuses,")
    return ranks

"""How ranks share the model of a recipe on Megatron-Core: fields of its configurations, under a framework's own keys.

Megatron-Bridge 0.7 and NeMo 2.6 hand them to Megatron as they are (core/transformer/transformer_config.py,
core/model_parallel_config.py, core/optimizer/optimizer_config.py of NVIDIA/Megatron-LM@d98e8a6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.megatron_engine import (
    STATES,
    UNFOLLOWED,
    dtype_of,
    recomputed_modules,
    unfollowed_recomputation,
)

FIELDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "virtual_pipeline_model_parallel_size": ("pipeline_chunks", "count"),
        "microbatch_group_size_per_vp_stage": ("chunk_alternation", "count"),
        "num_layers_in_first_pipeline_stage": ("first_stage_layers", "count"),
        "num_layers_in_last_pipeline_stage": ("last_stage_layers", "count"),
        "account_for_embedding_in_pipeline_split": ("embedding_as_layer", "flag"),
        "account_for_loss_in_pipeline_split": ("loss_as_layer", "flag"),
        "recompute_method": ("recompute_method", "text"),
        "recompute_num_layers": ("recompute_layers", "count"),
        "distribute_saved_activations": ("distributed_checkpoints", "flag"),
        "gradient_accumulation_fusion": ("gradient_accumulation_fusion", "flag"),
        "mtp_num_layers": ("mtp_layers", "count"),
    }
)
"""Fields, the facts that they say, and their forms."""
_DISPATCHERS = frozenset({"alltoall", "allgather", ""})
_OFFLOADS = "optimizer_cpu_offload"


def share_recipe(config: Config, key: Callable[[str], str], why: str = "") -> None:
    """Say that Megatron's ranks share the model, or why their step is not followed, and what they hold.

    Args:
        config: of the run.
        key: from the name of a field to its key in the framework; empty where it has none.
        why: what is not followed, as far as the framework knows it.
    """
    why = why or _unfollowed(config, key)
    if why:
        config.unknown("parallelism", f"{why} under Megatron is not simulated")
    else:
        config.derive("parallelism", "megatron", "Megatron's ranks share the model as the recipe says")
    for field, (fact, form) in FIELDS.items():
        if key(field):
            config.say(fact, key(field), form)
    modules = recomputed_modules(config, key("recompute_modules"))
    if modules:
        config.state("recompute_modules", modules, key("recompute_modules"))
    _states(config, key)


def _unfollowed(config: Config, key: Callable[[str], str]) -> str:
    """Why it is not followed; empty where it is."""
    tuning = config.fact("tuning")
    if tuning is None or tuning.value != "full":
        return "adapters"
    for name, what in UNFOLLOWED.items():
        field = key(name)
        if field and config.given(field) and (config.on(field) or config.is_unknown(field)):
            return f"{what} ({field})"
    if why := unfollowed_recomputation(config, key("recompute_modules")):
        return why
    field = key("moe_token_dispatcher_type")
    dispatcher = config.text(field) if field and config.given(field) else ""
    return "" if dispatcher in _DISPATCHERS else f"the token dispatcher {dispatcher} ({field})"


def _states(config: Config, key: Callable[[str], str]) -> None:
    """Dtypes of the precision-aware optimizer, and what of it is on the host."""
    switch, offloads = key("use_precision_aware_optimizer"), key(_OFFLOADS)
    if config.on(switch):
        config.state("precise_optimizer", True, switch)
        for fact, name in STATES.items():
            config.state(fact, dtype_of(config.text(key(name))), key(name))
    if config.on(offloads):
        config.state("offload_optimizer", "cpu", offloads)
        config.say("optimizer_offload_fraction", key("optimizer_offload_fraction"), "number")

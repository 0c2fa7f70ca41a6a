"""What back ends on Megatron-Core take: how GPUs share a model, and what is recomputed (megatron-core 0.17)."""

from __future__ import annotations

from vramlint.surfaces.frameworks.framework import Config

SPLITS = (
    ("tensor_model_parallel_size", "tensor_parallel"),
    ("pipeline_model_parallel_size", "pipeline_parallel"),
    ("context_parallel_size", "context_parallel"),
    ("expert_model_parallel_size", "expert_parallel"),
    ("expert_tensor_parallel_size", "expert_tensor_parallel"),
)
"""Keys and the facts that they say."""


def parallel_facts(config: Config, *, distributed: bool) -> None:
    """How the model is split, and what is recomputed in backward.

    Args:
        config: of the run.
        distributed: data-parallel GPUs share the optimizer's states.
    """
    for key, fact in SPLITS:
        if not config.say(fact, key, "count"):
            config.state(fact, config.integer(key) or 1, key)
    shared = config.integer("tensor_model_parallel_size") or 1
    along = config.on("sequence_parallel") and (shared > 1 or config.is_unknown("tensor_model_parallel_size"))
    config.state("sequence_parallel", along, "sequence_parallel")
    config.state("distributed_optimizer", distributed, "use_distributed_optimizer")
    recompute = config.text("recompute_granularity") or "none"
    config.state("recompute", recompute, "recompute_granularity")
    config.derive(
        "activation_checkpointing",
        recompute == "full",
        f"recompute_granularity is {recompute}",
        "recompute_granularity",
        over=True,
    )
    config.say("pipeline_layout", "pipeline_model_parallel_layout", "text")

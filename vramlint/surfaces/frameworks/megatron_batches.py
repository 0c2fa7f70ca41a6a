"""What Megatron and the frameworks on top of it make of a global batch."""

from __future__ import annotations

from vramlint.surfaces.frameworks.framework import Config


def accumulate(config: Config, total_key: str, micro_key: str, sizes: tuple[str, str, str]) -> None:
    """Micro batches of a step: what the global batch holds for one of the GPUs that share the data.

    Args:
        config: of the run.
        total_key: sequences of a step over all GPUs.
        micro_key: sequences of a forward on one GPU.
        sizes: the keys of tensor, pipeline and context parallelism.
    """
    total, micro, gpus = config.integer(total_key), config.integer(micro_key), config.gpus()
    if total and micro and gpus:
        sharing = 1
        for key in sizes:
            sharing *= config.integer(key) or 1
        copies = max(gpus // sharing, 1)
        reason = "global batch size / (micro batch size · GPUs that share the data)"
        config.derive("gradient_accumulation_steps", max(total // (micro * copies), 1), reason)
    elif config.given(total_key):
        config.unknown("gradient_accumulation_steps", "the number of GPUs decides it", total_key)
    elif config.given(micro_key):
        config.derive("gradient_accumulation_steps", 1, "the global batch is one micro batch of every GPU")


def unsimulated(config: Config) -> None:
    """Say that no figure is worth its digits: the optimizer, its gradients and its sharding are Megatron's own."""
    config.unknown("parallelism", "Megatron's own optimizer and data parallelism are not simulated")

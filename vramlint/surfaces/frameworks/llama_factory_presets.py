"""The DeepSpeed configurations in LLaMA-Factory's `examples/deepspeed`, which files outside its repository name too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.job import ConfigValue
from vramlint.patterns import lazy
from vramlint.surfaces.frameworks.stage_three import STAGE_THREE
from vramlint.surfaces.model_config import table_of
from vramlint.values import Plain, Table

_NAMES = lazy(r"(?:^|/)ds_z(?P<stage>[023])(?P<offload>_offload)?_config\.json$")
_PARTS = ("offload_optimizer", "offload_param")
"""What goes to host memory, the second at stage 3 alone."""
_COMMON: Mapping[str, ConfigValue] = MappingProxyType(
    {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        "fp16": {"enabled": "auto"},
        "bf16": {"enabled": "auto"},
    }
)
_BUCKETS: Mapping[str, Plain] = MappingProxyType(
    {
        "allgather_partitions": True,
        "allgather_bucket_size": 5e8,
        "overlap_comm": False,
        "reduce_scatter": True,
        "reduce_bucket_size": 5e8,
        "contiguous_gradients": True,
        "round_robin_gradients": True,
    }
)


def shipped(target: str) -> Table | None:
    """The DeepSpeed configuration of that path among those that come with LLaMA-Factory.

    Args:
        target: as `deepspeed` says it.
    """
    named = _NAMES.search(target.replace("\\", "/"))
    if named is None:
        return None
    stage = int(named["stage"])
    kept: Mapping[str, Plain] = {"device": "cpu", "pin_memory": True}
    parts = _PARTS[: stage - 1] if named["offload"] else ()
    zero: Mapping[str, ConfigValue] = {
        "stage": stage,
        **dict.fromkeys(parts, kept),
        **(STAGE_THREE if stage > len(_PARTS) else _BUCKETS),
    }
    return table_of({**_COMMON, "zero_optimization": zero})

"""ZeRO 3 as the configurations have it that come with LLaMA-Factory and ms-swift, both after transformers' own example.

LLaMA-Factory examples/deepspeed/ds_z3_config.json, ms-swift swift/config/zero3.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.values import Plain

STAGE_THREE: Mapping[str, Plain] = MappingProxyType(
    {
        "overlap_comm": False,
        "contiguous_gradients": True,
        "sub_group_size": 1e9,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1e9,
        "stage3_max_reuse_distance": 1e9,
        "stage3_gather_16bit_weights_on_model_save": True,
    }
)

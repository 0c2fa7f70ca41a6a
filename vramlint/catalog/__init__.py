"""The catalog: models, GPUs, optimizers and library defaults, looked up by name.

Rows are named tuples, made of a table's columns in their order.
"""

from vramlint.catalog.deepspeed import DeepSpeedKey, all_deepspeed_keys, find_deepspeed_key
from vramlint.catalog.defaults import Default, default, effective_default, lora_targets
from vramlint.catalog.gpu_requests import GpuRequest, parse_gpu
from vramlint.catalog.gpu_rows import GpuRow, all_gpus
from vramlint.catalog.gpus import GpuAmbiguous, find_gpu, gpu_row, nearest_gpus, smallest_gpus
from vramlint.catalog.keys import KeyHistory, accepted_keys, histories, key_history, keys, lineage
from vramlint.catalog.models import (
    ModelRow,
    all_models,
    find_model,
    find_model_by_last_part,
    model_names,
    nearest_models,
)
from vramlint.catalog.nearest import nearest
from vramlint.catalog.optimizers import OptimizerRow, all_optimizers, find_optimizer, nearest_optimizers
from vramlint.catalog.versions import NEWEST, Version, at_least, version_of

__all__ = [
    "NEWEST",
    "DeepSpeedKey",
    "Default",
    "GpuAmbiguous",
    "GpuRequest",
    "GpuRow",
    "KeyHistory",
    "ModelRow",
    "OptimizerRow",
    "Version",
    "accepted_keys",
    "all_deepspeed_keys",
    "all_gpus",
    "all_models",
    "all_optimizers",
    "at_least",
    "default",
    "effective_default",
    "find_deepspeed_key",
    "find_gpu",
    "find_model",
    "find_model_by_last_part",
    "find_optimizer",
    "gpu_row",
    "histories",
    "key_history",
    "keys",
    "lineage",
    "lora_targets",
    "model_names",
    "nearest",
    "nearest_gpus",
    "nearest_models",
    "nearest_optimizers",
    "parse_gpu",
    "smallest_gpus",
    "version_of",
]

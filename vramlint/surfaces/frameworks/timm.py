"""timm's train.py, by its command line and the YAML that `--config` names (timm 0.4 to 1.0.28).

Models are timm's own, which no figure is made of: the run is read and reported as not predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.surfaces.frameworks.framework import Config, Framework, Row

_ROWS = (
    Row("batch_size", "micro_batch_size", "count"),
    Row("validation_batch_size", "eval_micro_batch_size", "count"),
    Row("grad_accum_steps", "gradient_accumulation_steps", "count"),
    Row("grad_checkpointing", "activation_checkpointing", "flag"),
    Row("clip_grad", "max_grad_norm", "number"),
    Row("weight_decay", "weight_decay", "number"),
    Row("img_size", "image_size", "count"),
    Row("smoothing", "label_smoothing", "number"),
)
_OPTIMIZERS: Mapping[str, str] = MappingProxyType(
    {
        "sgd": "sgd",
        "momentum": "sgd",
        "nesterov": "sgd",
        "adam": "adam",
        "adamw": "adamw_torch",
        "lamb": "lamb",
        "lion": "lion",
        "adafactor": "adafactor",
        "bnbadamw8bit": "adamw_bnb_8bit",
        "bnblion8bit": "lion_8bit",
    }
)
"""`opt` (timm/optim/_optim_factory.py); others go by their own name."""
_AMP: Mapping[str, str] = MappingProxyType({"bfloat16": "bf16", "float16": "fp16"})


def _complete(config: Config) -> None:
    config.derive("loop", "plain", "timm's train.py has a loop of its own, with autocast around the forward pass")
    config.by_program("objective", "image-cls")
    config.by_program("tuning", "full")
    name = config.text("model")
    config.unknown("model", f"{name or 'its model'} is a model of timm's own", "model")
    optimizer = config.text("opt").lower()
    config.state("optimizer", _OPTIMIZERS.get(optimizer, optimizer), "opt")
    config.translate("load_dtype", "model_dtype", {})
    config.derive("load_dtype", "float32", "create_model makes float32 weights")
    if config.on("amp"):
        half = _AMP.get(config.text("amp_dtype") or "float16", "fp16")
        for word in _AMP.values():
            config.state(word, word == half, "amp_dtype", "amp")
        config.state("precision", f"{half}-mixed", "amp")
    config.derive("max_grad_norm", 0, "clip_grad is not given")
    config.state("torch_compile", config.given("torchcompile"), "torchcompile")


FRAMEWORK = Framework("timm", "timm", "timm", _ROWS, _complete)

"""The real optimizers, by the names of vramlint's catalog: TrainingArguments.optim where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

TORCH, BITSANDBYTES, TRANSFORMERS = "torch.optim", "bitsandbytes.optim", "transformers.optimization"
OPTIMIZERS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "adamw_torch_fused": (TORCH, "AdamW", {"fused": True}),
    "adamw_torch": (TORCH, "AdamW", {"foreach": True}),
    "adamw_torch_forloop": (TORCH, "AdamW", {"foreach": False}),
    "sgd": (TORCH, "SGD", {"foreach": True}),
    "sgd_momentum": (TORCH, "SGD", {"foreach": True, "momentum": 0.9}),
    "rmsprop": (TORCH, "RMSprop", {"foreach": True}),
    "adagrad": (TORCH, "Adagrad", {"foreach": True}),
    "torch_adadelta": (TORCH, "Adadelta", {"foreach": True}),
    "torch_adafactor": (TORCH, "Adafactor", {}),
    "torch_nadam": (TORCH, "NAdam", {"foreach": True}),
    "torch_rprop": (TORCH, "Rprop", {"foreach": True}),
    "adafactor": (TRANSFORMERS, "Adafactor", {"scale_parameter": False, "relative_step": False}),
    "adamw_bnb_8bit": (BITSANDBYTES, "AdamW", {"optim_bits": 8}),
    "adamw_bnb_32bit": (BITSANDBYTES, "AdamW", {"optim_bits": 32}),
    "paged_adamw_8bit": (BITSANDBYTES, "AdamW", {"optim_bits": 8, "is_paged": True}),
    "paged_adamw_32bit": (BITSANDBYTES, "AdamW", {"optim_bits": 32, "is_paged": True}),
    "lion_8bit": (BITSANDBYTES, "Lion", {"optim_bits": 8}),
    "lion_32bit": (BITSANDBYTES, "Lion", {"optim_bits": 32}),
}
"""Name to module, class and arguments (transformers 5.23 trainer_optimizer.py for those of the Trainer)."""
LEARNING_RATE = 1e-5
NO_DECAY = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")
"""Names of parameters without weight decay (transformers 5.23 trainer.py, get_decay_parameter_names)."""


def make_optimizer(name: str, model: Any) -> Any:
    """The optimizer over the model's trainable parameters, in the Trainer's two groups."""
    module, kind, arguments = OPTIMIZERS[name]
    made = getattr(import_module(module), kind)
    return made(groups(model), lr=LEARNING_RATE, **arguments)


def groups(model: Any) -> list[dict[str, Any]]:
    """Parameters with weight decay and without."""
    layer_norm = import_module("torch.nn").LayerNorm
    names = import_module("transformers.trainer_pt_utils").get_parameter_names
    decayed = set(names(model, [layer_norm], list(NO_DECAY)))
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in trained if (name in decayed) == decays], "weight_decay": 0.0}
        for decays in (True, False)
    ]


def state_tensors(optimizer: Any) -> list[Any]:
    """Every tensor that the optimizer keeps."""
    tensor = import_module("torch").Tensor
    return [
        value
        for state in optimizer.state.values()
        if isinstance(state, dict)
        for value in state.values()
        if isinstance(value, tensor)
    ]

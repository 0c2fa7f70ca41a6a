"""Arguments of the optimizer: those of `optim_args` that the Trainer hands on, or what a call by hand gives.

The Trainer reads a few names for each optimizer and drops the others without a word (transformers 5.23
trainer_optimizer.py, 4.57 trainer.py get_optimizer_cls_and_kwargs).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vramlint.job import Argument
from vramlint.resolve.board import Board

KEY = "optim_args"

_GALORE = ("rank", "update_proj_gap", "scale", "proj_type")
_APOLLO = (*_GALORE, "proj", "scale_type")
_SCHEDULE_FREE = ("weight_lr_power", "r")
_TORCHAO = ("block_size", "bf16_stochastic_round")
_READ: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sgd": ("momentum", "dampening", "nesterov"),
        "rmsprop": ("momentum", "alpha", "eps", "centered"),
        "adagrad": ("lr_decay", "eps"),
        "adamw_anyprecision": (
            "use_kahan_summation",
            "momentum_dtype",
            "variance_dtype",
            "compensation_buffer_dtype",
        ),
        "adamw_torch_4bit": _TORCHAO,
        "adamw_torch_8bit": _TORCHAO,
        "apollo_adamw": _APOLLO,
        "apollo_adamw_layerwise": _APOLLO,
        "galore_adafactor": _GALORE,
        "galore_adamw": _GALORE,
        "galore_adamw_8bit": _GALORE,
        "galore_adamw_8bit_layerwise": _GALORE,
        "galore_adamw_layerwise": _GALORE,
        "grokadamw": ("gradient_clipping",),
        "schedule_free_adamw": _SCHEDULE_FREE,
        "schedule_free_radam": _SCHEDULE_FREE,
        "schedule_free_sgd": _SCHEDULE_FREE,
        "stable_adamw": ("max_lr", "kahan_sum", "decouple_lr"),
    }
)
"""What the Trainer reads of `optim_args`, by the catalog's name. Parameter groups say the weight decay themselves."""
_TORCH_READ_FROM = (5, 3)
"""Since this version of transformers sgd, rmsprop and adagrad get their arguments (pull request 44203)."""
_TORCH = ("sgd", "rmsprop", "adagrad")


def optimizer_arguments(board: Board, name: str) -> dict[str, Argument]:
    """The arguments of the optimizer that the catalog calls `name`."""
    fact = board.facts.get("optimizer_arguments")
    if fact is None or not isinstance(fact.value, str):
        return {}
    pairs = (pair.partition("=") for pair in fact.value.replace(" ", "").split(","))
    given: dict[str, Argument] = {key: value for key, _, value in pairs if key}
    if fact.key != KEY:
        return given
    if name in _TORCH and board.setting.libraries.transformers < _TORCH_READ_FROM:
        return {}
    return {key: value for key, value in given.items() if key in _READ.get(name, ())}

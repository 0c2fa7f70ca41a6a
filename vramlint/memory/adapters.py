"""Which modules PEFT's adapters reach, at which rank, and what else trains beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vramlint.job import Adapter

TASK_HEADS: Mapping[str, tuple[str, ...]] = {
    "seq-cls": ("classifier", "score"),
    "token-cls": ("classifier", "score"),
    "qa": ("qa_outputs",),
}
"""Modules that PEFT trains besides the adapters in a task (peft 0.21 peft_model.py)."""
LAYER_NUMBER = re.compile(r".*?\.[^.]*\.(\d+)\.")
"""Where the number of a layer is in a module's name (peft 0.21 tuners/tuners_utils.py)."""


def with_head(adapter: Adapter | None, task: str) -> Adapter | None:
    """The adapter with the new head of the task among the modules that train as a whole."""
    heads = TASK_HEADS.get(task, ())
    return replace(adapter, modules_to_save=(*adapter.modules_to_save, *heads)) if adapter and heads else adapter


def saves(adapter: Adapter, name: str) -> bool:
    """Whether the parameter `name` is in a module that PEFT trains as a whole copy beside the frozen original."""
    path = f".{name.rpartition('.')[0]}."
    return any(f".{wanted}." in path for wanted in adapter.modules_to_save)


def targets(adapter: Adapter, defaults: Sequence[str], name: str, *, head: bool) -> bool:
    """Whether PEFT puts an adapter on the module `name` (peft 0.21 tuners/tuners_utils.py)."""
    if _names(adapter.exclude_modules, name) or saves(adapter, f"{name}.weight"):
        return False
    wanted = adapter.target_modules
    if wanted == "all-linear":
        return not head and _in_layers(adapter, name)
    if isinstance(wanted, str):
        return _names(wanted, name)
    names = defaults if wanted is None else wanted
    return name in names or (_names(names, name) and _in_layers(adapter, name))


def trained_rows(adapter: Adapter, name: str) -> int:
    """How many rows of the embedding `name` train (`trainable_token_indices`)."""
    return next((count for wanted, count in adapter.trained_tokens.items() if _names((wanted,), name)), 0)


def reaches_parameter(adapter: Adapter, name: str) -> bool:
    """Whether the parameter `name` is wanted by itself (`target_parameters`)."""
    return _names(adapter.target_parameters, name)


def trains_bias(adapter: Adapter, defaults: Sequence[str], name: str) -> bool:
    """Whether PEFT leaves the base's parameter `name` trainable because it is a bias."""
    module, _, last = name.rpartition(".")
    if last != "bias" or adapter.bias == "none":
        return False
    return adapter.bias == "all" or targets(adapter, defaults, module, head=False)


def rank_of(adapter: Adapter, name: str) -> int:
    """The rank of the adapter on the module `name`: the first pattern that fits its end decides."""
    for pattern, rank in adapter.rank_pattern.items():
        if _matches(rf"(.*\.)?({pattern})$", name):
            return rank
    return adapter.r


def _names(wanted: Sequence[str] | str | None, name: str) -> bool:
    """A pattern for the whole name, or ends of names."""
    if isinstance(wanted, str):
        try:
            return re.fullmatch(wanted, name) is not None
        except re.error:
            return False
    return any(name == target or name.endswith(f".{target}") for target in wanted or ())


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.match(pattern, name) is not None
    except re.error:
        return False


def _in_layers(adapter: Adapter, name: str) -> bool:
    if not adapter.layers_to_transform:
        return True
    found = LAYER_NUMBER.match(name)
    return found is not None and int(found[1]) in adapter.layers_to_transform

"""Which modules PEFT's adapters reach, at which rank, and what else trains beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isqrt

from msgspec.structs import replace

from vramlint.job import Adapter
from vramlint.patterns import lazy

TASK_HEADS: Mapping[str, tuple[str, ...]] = {
    "seq-cls": ("classifier", "score"),
    "token-cls": ("classifier", "score"),
    "qa": ("qa_outputs",),
}
"""Modules that PEFT trains besides the adapters in a task (peft 0.21 peft_model.py)."""
LAYER_NUMBER = lazy(r".*?\.[^.]*\.(\d+)\.")
"""Where the number of a layer is in a module's name (peft 0.21 tuners/tuners_utils.py)."""


_DOWN = (("k_proj", "v_proj", "down_proj"), ("down_proj",))
_QUERIES = (("q_proj", "v_proj", "down_proj"), ("down_proj",))
_FUSED = (("query_key_value", "dense_4h_to_h"), ("dense_4h_to_h",))
_ENCODER = (("key", "value", "output.dense"), ("output.dense",))
IA3_MODULES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(("llama", "mistral"), _DOWN),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"), _QUERIES),
    **dict.fromkeys(("bert", "roberta"), _ENCODER),
    **dict.fromkeys(("falcon", "gpt_neox"), _FUSED),
    "bloom": (("query_key_value", "mlp.dense_4h_to_h"), ("mlp.dense_4h_to_h",)),
    "mixtral": (("k_proj", "v_proj", "w2"), ("w2",)),
    "phi": (("q_proj", "v_proj", "fc2"), ("fc2",)),
    "opt": (("q_proj", "k_proj", "fc2"), ("fc2",)),
    "bart": (("q_proj", "v_proj", "fc2"), ("fc2",)),
    "gpt2": (("c_attn", "mlp.c_proj"), ("mlp.c_proj",)),
    "t5": (("k", "v", "wo"), ("wo",)),
    "mt5": (("k", "v", "wi_1"), ()),
}
"""Targets of IA³ by model type, and those whose inputs it scales (peft 0.21 utils/constants.py)."""
_NORMS = ("input_layernorm", "post_attention_layernorm")
DEFAULT_TARGETS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ia3": {model_type: names for model_type, (names, _) in IA3_MODULES.items()},
    "adalora": {
        "t5": ("q", "k", "v", "o", "wi", "wo"),
        "mt5": ("q", "k", "v", "o", "wi_0", "wi_1", "wo"),
        **dict.fromkeys(("bart", "opt"), ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")),
        "roberta": ("query", "key", "value", "dense"),
    },
    "fourierft": {"gpt2": ("mlp.c_proj",)},
    "lntuning": {
        **dict.fromkeys(("llama", "mistral", "gemma", "qwen2", "qwen3"), (*_NORMS, "norm")),
        "gemma2": (*_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm", "norm"),
        **dict.fromkeys(("bloom", "falcon"), (*_NORMS, "ln_f")),
        "phi": ("input_layernorm", "final_layernorm"),
        "gpt2": ("ln_1", "ln_2", "ln_f"),
        **dict.fromkeys(("t5", "mt5"), ("layer_norm", "final_layer_norm")),
        "bart": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
    },
}
"""Targets by method and model type where they are not LoRA's (peft 0.21 utils/constants.py)."""
ONLY_THEIR_OWN = frozenset({"ia3", "lntuning"})
"""Methods that refuse a model type which is not in their table."""


def default_targets(adapter: Adapter | None, model_type: str, lora: tuple[str, ...]) -> tuple[str, ...]:
    """Targets where the config names none; `lora` are LoRA's."""
    method = adapter.method if adapter is not None else ""
    return DEFAULT_TARGETS.get(method, {}).get(model_type, () if method in ONLY_THEIR_OWN else lora)


def scales_inputs(adapter: Adapter, model_type: str, name: str) -> bool:
    """Whether IA³ takes the module `name` for a feed-forward layer."""
    given = adapter.options.get("feedforward_modules")
    if given is None:
        given = IA3_MODULES.get(model_type, ((), ()))[1] if adapter.target_modules is None else ()
    return _names(given if isinstance(given, str | tuple) else (), name)


def factored(size: int, factor: int) -> tuple[int, int]:
    """Two numbers whose product is `size`: near `factor` and the rest, or for -1 both near the square root.

    The first is the smaller one (peft 0.21 tuners/lokr/layer.py, factorization).
    """
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = size if factor == -1 else factor
    small = max(n for n in range(1, isqrt(size) + 1) if size % n == 0 and n <= max(1, limit))
    return small, size // small


def with_head(adapter: Adapter | None, task: str) -> Adapter | None:
    """The adapter with the new head of the task among the modules that train as a whole."""
    heads = TASK_HEADS.get(task, ())
    return replace(adapter, modules_to_save=(*adapter.modules_to_save, *heads)) if adapter and heads else adapter


def copies(adapter: Adapter, defaults: Sequence[str], name: str) -> bool:
    """Whether PEFT trains a copy of the parameter `name` beside the frozen original."""
    if adapter.method == "lntuning" and targets(adapter, defaults, name.rpartition(".")[0], head=False):
        return True
    return saves(adapter, name)


def saves(adapter: Adapter, name: str) -> bool:
    """Whether the parameter `name` is in a module that PEFT trains as a whole."""
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


def _names(wanted: Sequence[object] | str | None, name: str) -> bool:
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


def option(adapter: Adapter, name: str, default: int) -> int:
    """A number that the config of a method other than LoRA may give."""
    value = adapter.options.get(name)
    return value if isinstance(value, int) else default

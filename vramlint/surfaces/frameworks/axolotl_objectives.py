"""What a run of Axolotl optimises: its `rl`, reward models, plugins with trainers of their own, images beside text.

axolotl 0.18 core/builders/{causal,rl}.py, core/trainers/grpo/__init__.py, train.py (setup_reference_model).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.facts import Candidate, Fact, Origin
from vramlint.surfaces.frameworks.framework import Config
from vramlint.text import Place
from vramlint.values import Items, Scalar, Table

_WHY = "Axolotl trains with the Trainer of transformers"


class _Objective(Struct, frozen=True):
    """A value of `rl`, or a switch."""

    name: str
    trainer: str = ""
    """TRL's trainer that Axolotl's one extends."""
    model_class: str = ""


_RL: Mapping[str, _Objective] = MappingProxyType(
    {
        "dpo": _Objective("dpo", "DPOTrainer"),
        "ipo": _Objective("ipo", "DPOTrainer"),
        "kto": _Objective("kto", "KTOTrainer"),
        "kto_pair": _Objective("dpo", "DPOTrainer"),
        "orpo": _Objective("orpo", "ORPOTrainer"),
        "simpo": _Objective("simpo", "CPOTrainer"),
        "grpo": _Objective("grpo", "GRPOTrainer"),
        "gdpo": _Objective("gdpo", "GRPOTrainer"),
        "ebft": _Objective("ebft"),
    }
)
_SWITCHES: Mapping[str, _Objective] = MappingProxyType(
    {
        "reward_model": _Objective("reward", "RewardTrainer", "AutoModelForSequenceClassification"),
        "process_reward_model": _Objective("prm", "PRMTrainer", "AutoModelForTokenClassification"),
        "kd_trainer": _Objective("kd"),
    }
)
_PLUGINS: Mapping[str, str] = MappingProxyType(
    {"integrations.kd.": "kd", "integrations.diffusion.": "diffusion", "integrations.hatchery.": "hosted"}
)
"""Plugins that bring a trainer, by a part of their dotted names."""
_ONLINE = ("grpo", "gdpo", "ebft")

_RL_ROWS = (
    ("trl.num_generations", "generations", "count"),
    ("ebft.n_samples_per_prompt", "generations", "count"),
    ("trl.max_completion_length", "completion_length", "count"),
    ("max_prompt_len", "prompt_length", "count"),
    ("trl.beta", "kl_coefficient", "number"),
    ("rl_beta", "kl_coefficient", "number"),
    ("dpo_beta", "kl_coefficient", "number"),
    ("orpo_alpha", "kl_coefficient", "number"),
    ("dpo_label_smoothing", "label_smoothing", "number"),
)
_ENGINE_ROWS = (
    ("vllm.gpu_memory_utilization", "inference_memory_fraction", "number"),
    ("vllm.tensor_parallel_size", "inference_tensor_parallel", "count"),
)


def objective(config: Config) -> None:
    """The facts of what is optimised, by which loop and with which model's class."""
    word = config.text("rl")
    chosen, key = _RL.get(word, _Objective(word)) if word else None, "rl"
    if chosen is None:
        key = next((name for name in _SWITCHES if config.on(name)), "")
        chosen = _SWITCHES.get(key)
    trainer = chosen.trainer if chosen else ""
    config.draft.put(
        Fact("loop", (Candidate("trainer", config.place(key)),), Origin.DERIVED, trainer, "code", reason=_WHY)
    )
    if chosen is not None:
        config.state("objective", chosen.name, key)
    else:
        _supervised(config)
    _model_class(config, chosen)
    if word:
        _rewarded(config, word)


def _supervised(config: Config) -> None:
    for part, name in _PLUGINS.items():
        place = plugin(config, part)
        if place is not None:
            config.draft.put(written("objective", name, place, "plugins"))
            return
    if config.given("processor_type"):
        config.state("objective", "sft-vlm", "processor_type")
    elif config.given("pretraining_dataset"):
        config.derive("objective", "pretrain", "all tokens of a data set are trained on", "pretraining_dataset")
    else:
        place = _type_of_data(config)
        reason = "no other objective is asked for"
        config.draft.put(Fact("objective", (Candidate("sft", place),), Origin.DERIVED, "", "code", reason=reason))


def _type_of_data(config: Config) -> Place | None:
    """Where the first data set says how it is written."""
    data = config.value("datasets")
    first = data.values[0] if isinstance(data, Items) and data.values else None
    kind = first.entry("type") if isinstance(first, Table) else None
    return (kind.key_place or kind.value.place) if kind else None


def _model_class(config: Config, chosen: _Objective | None) -> None:
    keys = ("model_type", "type_of_model")
    for key in keys:
        config.say("model_class", key, "text")
    if chosen is not None and chosen.model_class:
        config.state("model_class", chosen.model_class, *keys)
    if config.text("model_type").endswith("ForSequenceClassification") and chosen is None and not config.text("rl"):
        config.state("objective", "seq-cls", "model_type", over=True)


def _rewarded(config: Config, word: str) -> None:
    """What belongs to preferences and rewards: the model that is compared with, what is generated, and by whom."""
    for key, fact, converter in _RL_ROWS:
        config.say(fact, key, converter)
    if word == "ipo":
        _reference(config)
    if word not in _ONLINE:
        return
    if config.on("trl.use_vllm"):
        config.state("inference_engine", "vllm", "trl.use_vllm")
        for key, fact, converter in _ENGINE_ROWS:
            if not config.say(fact, key, converter) and config.default(key) is not None:
                config.state(fact, config.default(key))


def _reference(config: Config) -> None:
    if config.text("adapter"):
        config.derive("reference_model", "adapter off", "the base with its adapter switched off", "adapter")
    else:
        config.derive("reference_model", config.text("base_model"), "a copy of the model that is trained", "base_model")


def plugin(config: Config, part: str) -> Place | None:
    """Where a plugin is listed whose dotted name has a part; None where it is not."""
    plugins = config.value("plugins")
    for item in plugins.values if isinstance(plugins, Items) else ():
        if isinstance(item, Scalar) and part in str(item.value):
            return item.place
    return None


def written(fact: str, value: str | bool | int, place: Place, key: str) -> Fact:
    """A fact that an item of a list says."""
    return Fact(fact, (Candidate(value, place),), Origin.WRITTEN, key, "config-file")

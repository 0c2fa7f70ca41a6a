"""What a flat recipe for TRL trains: by keys that one trainer alone has, by the names of folders, by what is usual."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from vramlint.text import Place
from vramlint.values import Table


class Told(Struct, frozen=True):
    """The objective of a recipe."""

    objective: str
    keys: tuple[str, ...] = ()
    """That tell it."""
    reason: str = ""
    """Why it is only likely: the program that the recipe is given to decides; empty where the keys say it."""


_SURE = (
    ("rloo_k", "rloo"),
    ("num_ppo_epochs", "ppo"),
    ("cliprange_value", "ppo"),
    ("teacher_model_name_or_path", "gkd"),
    ("lmbda", "gkd"),
    ("desirable_weight", "kto"),
    ("undesirable_weight", "kto"),
    ("cpo_alpha", "cpo"),
    ("simpo_gamma", "cpo"),
    ("max_density_ratio", "bco"),
    ("center_rewards_coefficient", "reward"),
    ("train_on_last_step_only", "prm"),
    ("num_generations", "grpo"),
    ("num_iterations", "grpo"),
    ("reward_funcs", "grpo"),
)
"""Keys that one trainer of TRL has (trl 0.8 to 1.16, trainer/*_config.py), the more telling first; rloo has some of
grpo's too."""

_SHARED = (
    ("beta", "dpo"),
    ("max_prompt_length", "dpo"),
    ("rpo_alpha", "dpo"),
    ("precompute_ref_log_probs", "dpo"),
    ("max_completion_length", "grpo"),
)
"""Keys of a few trainers, and the one that is usual."""

_LIKELY = (
    "packing",
    "max_seq_length",
    "dataset_text_field",
    "assistant_only_loss",
    "completion_only_loss",
    "eval_packing",
    "neftune_noise_alpha",
)
"""Keys of SFTConfig, which a script may well have for arguments of its own."""

_PREFERENCES = frozenset(("orpo", "kto", "cpo", "bco", "simpo"))
NAMED = {
    "sft": "sft",
    "dpo": "dpo",
    "orpo": "orpo",
    "kto": "kto",
    "cpo": "cpo",
    "simpo": "cpo",
    "bco": "bco",
    "grpo": "grpo",
    "rloo": "rloo",
    "gkd": "gkd",
    "prm": "prm",
    "reward": "reward",
    "ppo": "ppo",
}
"""Words of a path, and objectives."""
_OPEN = "; the program that it is given to decides"


def objective_told(path: str, table: Table, *, trl: bool) -> Told | None:
    """The objective of a recipe; None where nothing hints at one.

    Args:
        path: the file, of which words hint.
        table: its root.
        trl: it is a recipe for TRL's parser, which then trains by one of its methods.
    """
    words = [word for word in re.split(r"[^a-z]+", path.lower()) if word in NAMED]
    named = NAMED[words[-1]] if words else ""
    for rows in (_SURE, _SHARED):
        keys = [key for key, _ in rows if table.entry(key)]
        if not keys:
            continue
        found = next(objective for key, objective in rows if key == keys[0])
        keys = [key for key, objective in rows if objective == found and table.entry(key)]
        other = named in _PREFERENCES if found == "dpo" else named == "rloo" and found == "grpo"
        if other:
            return Told(
                named, tuple(keys), f"its keys are those of several objectives, and its path says {named}{_OPEN}"
            )
        return Told(found, tuple(keys))
    keys = [key for key in _LIKELY if table.entry(key)]
    if not trl and not keys:
        return None
    if named and not keys:
        return Told(named, (), f"its path says {named}{_OPEN}")
    reason = "its keys are those of SFT" if keys else "no key of another objective is there"
    return Told("sft", tuple(keys), reason + _OPEN)


def places_of(told: Told | None, table: Table) -> Iterator[Place]:
    """Where the keys are written that tell it."""
    for key in told.keys if told else ():
        entry = table.entry(key)
        place = entry and (entry.key_place or entry.value.place)
        if place:
            yield place

"""What a recipe of torchtune trains: told by its name, its loss, or further models (torchtune 0.7 recipes/*.py)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.surfaces.frameworks.framework import Config
from vramlint.surfaces.frameworks.torchtune_command import COMPONENT
from vramlint.surfaces.frameworks.torchtune_models import named
from vramlint.surfaces.launch.framework_programs import PROGRAM


class _Recipe(Struct, frozen=True):
    """What the name of a recipe says."""

    pattern: re.Pattern[str]
    objective: str


_RECIPES = (
    _Recipe(lazy(r"dpo"), "dpo"),
    _Recipe(lazy(r"ppo"), "ppo"),
    _Recipe(lazy(r"grpo"), "grpo"),
    _Recipe(lazy(r"knowledge_distillation|(?:^|_)kd(?:_|$)"), "distillation"),
    _Recipe(lazy(r"finetune|qat"), "sft"),
)
"""Recipes by their names (recipes/*.py, recipes/dev/*.py), the first that fits."""

_LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "DPOLoss": "dpo",
        "RSOLoss": "dpo",
        "IPOLoss": "dpo",
        "SimPOLoss": "simpo",
        "PPOLoss": "ppo",
        "GRPOLoss": "grpo",
        "GRPOSimpleLoss": "grpo",
        "GRPOWithChunkedOutputLoss": "grpo",
        "GRPOCompletionLoss": "grpo",
        "LinearGRPOLoss": "grpo",
    }
)
"""Losses that only the recipe of one objective takes (rlhf/loss, dev/grpo/loss.py)."""

_HEADS: Mapping[str, bool] = MappingProxyType(
    {"LinearCrossEntropyLoss": False, "LigerLinearCrossEntropy": False, "LigerFusedLinearCrossEntropyLoss": False}
)
"""Losses that multiply with the output head themselves, chunk by chunk: no tensor has the logits of all tokens."""


def recipe_of(config: Config) -> str:
    """The name of the recipe: the command line says it, or the registry for a packaged configuration."""
    program = config.text(PROGRAM)
    if program:
        return posixpath.basename(program.split()[-1].replace(".", "/").removesuffix("/py"))
    return ""


def objective(config: Config, recipe: str) -> None:
    """Objective, reference model, and the quantizer of a run that takes part in rounding; `recipe` may be empty."""
    by_name = next((row.objective for row in _RECIPES if row.pattern.search(recipe)), "") if recipe else ""
    loss = config.text(f"loss.{COMPONENT}").rpartition(".")[2]
    if config.given("kd_loss") or config.given("teacher_model"):
        config.derive("objective", "distillation", "a teacher model is given", "kd_loss", "teacher_model")
    elif by_name:
        config.derive("objective", by_name, f"what the recipe {recipe} trains", PROGRAM)
    elif loss in _LOSSES:
        config.derive("objective", _LOSSES[loss], f"the recipe that takes {loss}", f"loss.{COMPONENT}")
    elif config.given("policy_model"):
        config.derive("objective", "ppo", "a policy and a reward model are given", "policy_model")
    else:
        config.assume("objective", "sft", "the command line says which recipe runs")
    teacher = named(config.text(f"teacher_model.{COMPONENT}")).model
    if teacher:
        config.derive("reference_model", teacher, "the teacher", f"teacher_model.{COMPONENT}")
    elif config.given("ref_checkpointer"):
        made = named(config.text(f"model.{COMPONENT}")).model
        config.derive("reference_model", made, "the same model with its own checkpoint", "ref_checkpointer")
    if config.given("quantizer") and "QAT" in config.text(f"quantizer.{COMPONENT}"):
        config.state("fake_quantization", config.text(f"quantizer.{COMPONENT}").rpartition(".")[2], "quantizer")


def loss_of(config: Config) -> None:
    """The loss by its class, and whether one tensor has the logits of all tokens."""
    key = f"loss.{COMPONENT}"
    name = config.text(key).rpartition(".")[2]
    if not name:
        return
    config.state("loss_type", name, key)
    whole = _HEADS.get(name, True)
    reason = "the loss multiplies with the head chunk by chunk" if not whole else "the model's output are the logits"
    config.derive("full_logits", whole, reason, key)
    config.derive("fused_loss", not whole, reason, key)

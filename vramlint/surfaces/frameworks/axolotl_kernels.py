"""Losses and kernels of Axolotl's plugins: Cut Cross Entropy, Liger; tiled MLPs; the allocator's settings.

axolotl 0.18 integrations/{cut_cross_entropy,liger}, monkeypatch/loss/chunked.py, monkeypatch/tiled_mlp,
utils/__init__.py. What a plugin's keys say has an effect only where `plugins` lists it.
"""

from __future__ import annotations

from collections.abc import Mapping

from vramlint.facts import FactValue
from vramlint.surfaces.frameworks.axolotl_objectives import plugin, written
from vramlint.surfaces.frameworks.framework import Beside, Config, Held
from vramlint.surfaces.launch.framework_programs import PROGRAM
from vramlint.values import Items, Scalar

_LIGER = (
    ("liger_rope", "liger_rope"),
    ("liger_rms_norm", "liger_rms_norm"),
    ("liger_glu_activation", "liger_swiglu"),
    ("liger_swiglu", "liger_swiglu"),
    ("liger_glu_activation", "liger_geglu"),
    ("liger_cross_entropy", "liger_cross_entropy"),
    ("liger_fused_linear_cross_entropy", "liger_fused_head"),
)
"""Key and fact; each is off unless it is on (integrations/liger/plugin.py)."""

_ALLOCATOR = "expandable_segments:True"
_COARSE = f"{_ALLOCATOR},roundup_power2_divisions:16"
_FINE_FROM = (0, 16)
"""Since then requests are rounded for torch before 2.9 only, with which that release is not installed."""
_TOOL = "axolotl"
"""The command sets the allocator before it trains, its modules do not (cli/main.py)."""


def kernels(config: Config) -> None:
    """The facts of the loss and of kernels that take the place of the model's own operators."""
    _cut(config)
    _liger(config)
    _others(config)
    config.state("fused_loss", False)
    config.say("tiled_mlp", "tiled_mlp", "flag")
    program = config.text(PROGRAM)
    if not program or program.split()[0] == _TOOL:
        reason = "the command sets PYTORCH_CUDA_ALLOC_CONF where it is not set"
        coarse = config.release is not None and config.release < _FINE_FROM
        config.derive("allocator_settings", _COARSE if coarse else _ALLOCATOR, reason)


def _cut(config: Config) -> None:
    place = plugin(config, "cut_cross_entropy.")
    if place is None or (config.given("cut_cross_entropy") and not config.on("cut_cross_entropy")):
        return
    config.draft.put(written("fused_loss", True, place, "plugins"))
    config.draft.put(written("loss_type", "cut", place, "plugins"))
    config.derive("full_logits", False, "Cut Cross Entropy takes the head's weight instead of logits", "plugins")


def _liger(config: Config) -> None:
    place = plugin(config, "integrations.liger.")
    if place is None:
        config.derive("liger", False, "its plugin is not listed")
        return
    config.draft.put(written("liger", True, place, "plugins"))
    for key, fact in _LIGER:
        if config.on(key):
            config.state(fact, True, key)
    for _, fact in _LIGER:
        config.state(fact, False)
    if config.on("liger_fused_linear_cross_entropy"):
        config.state("fused_loss", True, "liger_fused_linear_cross_entropy")


_PLUGIN = "axolotl.integrations.liger.LigerPlugin"
_SPELLED = ("liger_rope", "liger_rms_norm", "liger_glu_activation", "liger_fused_linear_cross_entropy")
"""What Axolotl's page on Liger puts in place (docs/custom_integrations.qmd)."""


def spelled_liger(value: FactValue, beside: Beside) -> Mapping[str, Held] | None:
    """Liger's plugin beside those that are listed, and its kernels; None beside another loss."""
    listed = beside.table.get("plugins")
    words = [item.value for item in listed.values if isinstance(item, Scalar)] if isinstance(listed, Items) else []
    if value is not True or len(words) < (len(listed.values) if isinstance(listed, Items) else 0):
        return None
    names = [str(word) for word in words]
    if (listed is not None and not isinstance(listed, Items)) or any("cut_cross_entropy" in name for name in names):
        return None
    there = any("integrations.liger." in name for name in names)
    return {**({} if there else {"plugins": (*names, _PLUGIN)}), **dict.fromkeys(_SPELLED, True)}


def _others(config: Config) -> None:
    """Losses over whole logits: torchtune's in chunks, and one that the memory model does not know."""
    if config.on("chunked_cross_entropy"):
        config.state("loss_type", "CEWithChunkedOutputLoss", "chunked_cross_entropy")
        config.derive("full_logits", True, "the logits are made at once and widened in parts", "chunked_cross_entropy")
    elif config.on("use_eaft"):
        config.state("loss_type", "eaft", "use_eaft")

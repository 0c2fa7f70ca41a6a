"""Every framework whose tables are read again, by the name that the command takes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tools.surfaces import (
    axolotl,
    examples,
    litgpt_models,
    llama_factory_v1,
    lmflow,
    megatron,
    megatron_bridge,
    ms_swift_megatron,
    nemo_recipes,
    openrlhf,
    specforge,
    torchtitan,
    torchtune,
    unsloth,
    verl,
    xtuner,
)
from tools.surfaces.plain import PLAIN
from tools.surfaces.source import Source

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        **PLAIN,
        "axolotl": axolotl.SOURCE,
        "diffusers": examples.SOURCE,
        "litgpt": PLAIN["litgpt"]._replace(whole=litgpt_models.whole),
        "llama-factory-v1": llama_factory_v1.SOURCE,
        "lmflow": lmflow.SOURCE,
        "megatron": megatron.SOURCE,
        "megatron-bridge": megatron_bridge.SOURCE,
        "ms-swift-megatron": ms_swift_megatron.SOURCE,
        "nemo": nemo_recipes.SOURCE,
        "openrlhf": openrlhf.SOURCE,
        "specforge": specforge.SOURCE,
        "timm": examples.TIMM,
        "torchtitan": torchtitan.SOURCE,
        "torchtune": torchtune.SOURCE,
        "unsloth": unsloth.SOURCE,
        "verl": verl.SOURCE,
        "xtuner": xtuner.SOURCE,
    }
)
"""A framework that needs code of its own is a module here, with a `SOURCE`."""

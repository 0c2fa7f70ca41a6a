"""PEFT's methods by the names of their configs: what each puts around a linear layer, one file each.

A run needs one of them, so each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from vramlint.job import Adapter
from vramlint.memory.methods.maker import Maker
from vramlint.memory.ops.linear import Adapter as Wrapper

if TYPE_CHECKING:
    from vramlint.memory.ops.prefixes import Prefix
    from vramlint.memory.ops.prompts import Prompt

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "lora": "lora",
        "adalora": "adalora",
        "adamss": "adamss",
        "ia3": "ia3",
        "vera": "vera",
        "loha": "loha",
        "lokr": "lokr",
        "fourierft": "fourierft",
        "miss": "miss",
        "bone": "miss",
        "oft": "oft",
        "beft": "beft",
        "boft": "boft",
        "c3a": "c3a",
        "deft": "deft",
        "delora": "delora",
        "glora": "glora",
        "gralora": "gralora",
        "hira": "hira",
        "osf": "osf",
        "peanut": "peanut",
        "pvera": "pvera",
        "randlora": "randlora",
        "road": "road",
        "shira": "shira",
        "unilora": "unilora",
        "vblora": "vblora",
    }
)
"""Methods that wrap linear layers, and the modules of this package that follow them."""
OVER_QUANTIZED = frozenset({"adalora", "ia3", "miss", "oft", "vera"})
"""Methods besides LoRA that are followed over what bitsandbytes quantized."""
PROMPTS, PREFIXES = frozenset({"prompttuning", "promptencoder"}), frozenset({"prefixtuning"})
WITH_PROMPTS = PROMPTS | PREFIXES
"""Methods that put virtual tokens before the text."""
WITHOUT_LAYERS = frozenset({"trainabletokens", "lntuning"})
"""Methods that train embeddings or norms only."""
SIMULATED = frozenset(METHODS) | WITHOUT_LAYERS | WITH_PROMPTS
"""Methods whose step is followed."""


def wrap(build: Maker, adapter: Adapter, name: str, inputs: int, outputs: int) -> Wrapper:
    """What the method of `adapter` puts around the linear layer `name` from `inputs` to `outputs` features.

    Raises:
        NotFollowedError: a variant of the method is not followed.
    """
    module = import_module(f"{__name__}.{METHODS[adapter.method]}")
    wrapper: Wrapper = module.wrap(build, adapter, name, inputs, outputs)
    return wrapper


def prompt_of(build: Maker, width: int) -> Prompt | None:
    """The virtual tokens of a model of `width`, where the run trains such.

    Raises:
        NotFollowedError: a variant of the method is not followed.
    """
    if build.adapter is None or build.adapter.method not in PROMPTS:
        return None
    from vramlint.memory.methods import prompts

    return prompts.prompt_of(build, width)


def prefix_of(build: Maker, config: Mapping[str, object]) -> Prefix | None:
    """The keys and values before the text of a model of `config`, where the run trains such.

    Raises:
        NotFollowedError: a variant of the method is not followed.
    """
    if build.adapter is None or build.adapter.method not in PREFIXES:
        return None
    from vramlint.memory.methods import prefixes

    return prefixes.prefix_of(build, config)

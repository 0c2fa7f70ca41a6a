"""What every optimizer of the catalog does in a step, tensor by tensor: one file for each family.

`UPDATES` says by the catalog's name which class follows it, `REFUSED` why the others are not followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from msgspec import Struct

from vramlint.catalog.optimizers import find_optimizer
from vramlint.job import Argument, Libraries, Optimizer
from vramlint.memory.updates.update import Settings, Update


class Recipe(Struct, frozen=True):
    """Who follows an optimizer, and the arguments that its name implies."""

    module_and_class: str
    presets: Mapping[str, Argument] = MappingProxyType({})


_8BIT: Mapping[str, Argument] = MappingProxyType({"optim_bits": 8})
_PAGED: Mapping[str, Argument] = MappingProxyType({"is_paged": True})
_PAGED_8BIT: Mapping[str, Argument] = MappingProxyType({**_8BIT, **_PAGED})
_LAYERWISE: Mapping[str, Argument] = MappingProxyType({"layerwise": True})
_CATALOGUED = Recipe("fixed:Catalogued")

UPDATES: Mapping[str, Recipe] = MappingProxyType(
    {
        "adafactor": Recipe("factored:Adafactor"),
        "adagrad": Recipe("root_mean_square:Adagrad"),
        "adalomo": Recipe("lomo:AdaLomo"),
        "adam_mini": Recipe("adam_mini:AdamMini"),
        "adamw_anyprecision": Recipe("adam_loops:AnyPrecisionAdamW"),
        "adamw_apex_fused": _CATALOGUED,
        "adamw_bnb_32bit": Recipe("bitsandbytes:TwoStates"),
        "adamw_bnb_8bit": Recipe("bitsandbytes:TwoStates", _8BIT),
        "adamw_hf": Recipe("adam_loops:TransformersAdamW"),
        "adamw_torch": Recipe("adam:AdamW"),
        "adamw_torch_4bit": Recipe("torchao:LowBitAdamW", {"bits": "4", "block_size": 256}),
        "adamw_torch_8bit": Recipe("torchao:LowBitAdamW", {"bits": "8", "block_size": 256}),
        "adamw_torch_forloop": Recipe("adam:AdamW", {"foreach": False}),
        "adamw_torch_fused": Recipe("adam:AdamW", {"fused": True}),
        "ademamix": Recipe("bitsandbytes:AdEMAMix"),
        "ademamix_8bit": Recipe("bitsandbytes:AdEMAMix", _8BIT),
        "adopt_adamw": _CATALOGUED,
        "apollo_adamw": Recipe("apollo:Apollo"),
        "apollo_adamw_layerwise": Recipe("apollo:Apollo", _LAYERWISE),
        "bnb_lamb_8bit": Recipe("bitsandbytes:Lamb", _8BIT),
        "bnb_lamb_32bit": Recipe("bitsandbytes:Lamb"),
        "bnb_lars_32bit": Recipe("bitsandbytes:Lars"),
        "bnb_lars_8bit": Recipe("bitsandbytes:Lars", _8BIT),
        "bnb_sgd_32bit": Recipe("bitsandbytes:OneState"),
        "bnb_sgd_8bit": Recipe("bitsandbytes:OneState", _8BIT),
        "came": Recipe("came:Came"),
        "deepspeed_adagrad": _CATALOGUED,
        "deepspeed_adamw": _CATALOGUED,
        "deepspeed_cpu_adam": _CATALOGUED,
        "deepspeed_lamb": _CATALOGUED,
        "deepspeed_lion": _CATALOGUED,
        "deepspeed_onebit": _CATALOGUED,
        "galore_adafactor": Recipe("galore:GaLoreAdafactor"),
        "galore_adamw": Recipe("galore:GaLoreAdamW"),
        "galore_adamw_8bit": Recipe("galore:GaLoreAdamW8bit"),
        "galore_adamw_8bit_layerwise": Recipe("galore:GaLoreAdamW8bit", _LAYERWISE),
        "galore_adamw_layerwise": Recipe("galore:GaLoreAdamW", _LAYERWISE),
        "grokadamw": Recipe("grokadamw:GrokAdamW"),
        "lion_32bit": Recipe("bitsandbytes:OneState"),
        "lion_8bit": Recipe("bitsandbytes:OneState", _8BIT),
        "lion_pytorch": Recipe("adam_loops:Lion"),
        "lomo": Recipe("lomo:Lomo"),
        "megatron_adam": _CATALOGUED,
        "optimi_adamw": Recipe("optimi:AdamW"),
        "optimi_adan": Recipe("optimi:Adan"),
        "optimi_lion": Recipe("optimi:Lion"),
        "paged_adamw_32bit": Recipe("bitsandbytes:TwoStates", _PAGED),
        "paged_adamw_8bit": Recipe("bitsandbytes:TwoStates", _PAGED_8BIT),
        "paged_ademamix_32bit": Recipe("bitsandbytes:AdEMAMix", _PAGED),
        "paged_ademamix_8bit": Recipe("bitsandbytes:AdEMAMix", _PAGED_8BIT),
        "paged_lion_32bit": Recipe("bitsandbytes:OneState", _PAGED),
        "paged_lion_8bit": Recipe("bitsandbytes:OneState", _PAGED_8BIT),
        "prodigy": Recipe("prodigy:Prodigy"),
        "rmsprop": Recipe("root_mean_square:RMSprop"),
        "rmsprop_bnb": Recipe("bitsandbytes:OneState"),
        "rmsprop_bnb_8bit": Recipe("bitsandbytes:OneState", _8BIT),
        "schedule_free_adamw": Recipe("schedule_free:AdamWScheduleFree"),
        "schedule_free_radam": Recipe("schedule_free:RAdamScheduleFree"),
        "schedule_free_sgd": Recipe("schedule_free:SGDScheduleFree"),
        "sgd": Recipe("sgd:SGD"),
        "sophia": _CATALOGUED,
        "stable_adamw": Recipe("optimi:StableAdamW"),
        "torch_adadelta": Recipe("adadelta:Adadelta"),
        "torch_adafactor": Recipe("factored:TorchAdafactor"),
        "torch_adamax": Recipe("adam_variants:Adamax"),
        "torch_asgd": Recipe("asgd:ASGD"),
        "torch_muon": Recipe("muon:Muon"),
        "torch_nadam": Recipe("adam_variants:NAdam"),
        "torch_radam": Recipe("adam_variants:RAdam"),
        "torch_rprop": Recipe("rprop:Rprop"),
        "torchao_adamw_4bit": Recipe("torchao:LowBitAdamW", {"bits": "4"}),
        "torchao_adamw_fp8": Recipe("torchao:LowBitAdamW", {"bits": "fp8"}),
        "torchao_cpu_offload": Recipe("torchao:CpuOffload"),
    }
)

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "adamw_torch_npu_fused": "it runs on Ascend devices, whose kernel is not read",
        "adamw_torch_xla": "it runs on XLA devices, where the compiler decides what a step holds",
        "deepspeed_muon": "it orthogonalizes matrices that ZeRO gathers for it, which is not followed",
        "galore_adafactor_layerwise": "the Trainer gives its constructor a learning rate that it refuses",
        "shampoo": "the sizes of its preconditioners depend on how a library blocks them",
        "torch_lbfgs": "its step runs the model up to 20 times and keeps 100 earlier steps",
    }
)
"""Why a catalogued optimizer is not followed: what a run with it holds is bounded only."""


def update_for(optimizer: Optimizer, libraries: Libraries | None = None) -> Update | None:
    """Who follows the optimizer; None if nobody does."""
    name = _canonical(optimizer.name)
    recipe = UPDATES.get(name)
    if recipe is None:
        return None
    module, _, cls = recipe.module_and_class.partition(":")
    found: type[Update] = getattr(import_module(f"vramlint.memory.updates.{module}"), cls)
    return found(Settings(optimizer, libraries or Libraries(), recipe.presets))


def refusal(optimizer: Optimizer) -> str:
    """Why nobody follows it."""
    reason = REFUSED.get(_canonical(optimizer.name))
    return f"the optimizer {optimizer.name} is not simulated" + (f" ({reason})" if reason else "")


@cache
def _canonical(name: str) -> str:
    row = find_optimizer(name)
    return name if row is None else row.name

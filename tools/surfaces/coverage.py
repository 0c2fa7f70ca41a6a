"""Which source makes or checks which table below `catalog/data`, and which tables are kept by hand, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

from tools.surfaces.registry import SOURCES
from tools.surfaces.source import table_file

_OTHERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "diffusers": (table_file("diffusers-*"),),
        "litgpt": (table_file("litgpt"), "litgpt_models.tsv"),
        "megatron-bridge": (table_file("megatron-bridge"), table_file("megatron-bridge_recipes")),
        "nemo": (table_file("nemo_recipes"),),
        "openrlhf": (table_file("openrlhf-*"),),
        "specforge": (table_file("specforge"), table_file("specforge-scripts")),
        "torchtitan": tuple(map(table_file, ("torchtitan", "torchtitan_flavors", "torchtitan_registries"))),
        "torchtune": tuple(map(table_file, ("torchtune", "torchtune_builders", "torchtune_configs"))),
        "unsloth": ("unsloth.tsv",),
        "verl": (table_file("verl"), table_file("verl-sft"), table_file("verl-sft-engine")),
        "xtuner": (table_file("xtuner"), table_file("xtuner_configs")),
    }
)
"""The tables of sources that have others than one of their own name."""

BY_HAND: Mapping[str, str] = MappingProxyType(
    {
        table_file("nemo"): "five defaults of NeMo 1, by the names of Megatron's flags: no list of keys",
        table_file("qlora-pipe"): "read off what its code asks the file for: nothing declares the keys",
        "accelerators.tsv": "names of devices, from vendors and clouds",
        "attention_kernels.tsv": "what classes of transformers say in the releases of each minor version",
        "deepspeed_keys.tsv": "what DeepSpeed's readers ask for, with remarks on memory",
        "defaults.tsv": "what takes effect in several libraries, where code spells it otherwise too",
        "gpu_spellings.tsv": "names that Modal, SkyPilot and GKE take for a device today",
        "gpus.tsv": "data sheets and outputs of tools",
        "instances.tsv": "clouds' lists of machines",
        "keys.tsv": "fields of TrainingArguments and of TRL's and PEFT's configurations over many releases of each",
        "mig.tsv": "vendors' lists of profiles",
        "models.tsv": "config.json of checkpoints, each with its source (`python -m tools.catalog add`)",
        "optimizers.tsv": "states that optimizers' code allocates, read one by one",
        "tensor_plans.tsv": "plans that classes of transformers have, inherited ones too, of the installed library",
    }
)
"""Tables that no source makes, by their path below `catalog/data`, and why. One of a source that comes later is no
longer by hand."""


def files_of(name: str) -> tuple[str, ...]:
    """The tables of a source, as patterns of paths below `catalog/data`."""
    return _OTHERS.get(name, (table_file(name),))


def source_of(file: str) -> str:
    """The source that makes or checks a table; empty where none does."""
    return next((name for name in SOURCES if any(fnmatchcase(file, pattern) for pattern in files_of(name))), "")


def uncovered(files: Iterable[str]) -> Iterator[str]:
    """The tables that neither a source nor a reason covers."""
    yield from (file for file in files if not source_of(file) and file not in BY_HAND)

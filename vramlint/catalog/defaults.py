"""Library defaults by version: what applies when a configuration does not say."""

from __future__ import annotations

import json

from msgspec import Struct

from vramlint.catalog.deepspeed import find_deepspeed_key
from vramlint.catalog.lines import lines
from vramlint.catalog.versions import NEWEST, Version, at_least, satisfies, version_of
from vramlint.job import Libraries

DefaultValue = str | int | float | bool | None | tuple[str, ...]


class Default(Struct, frozen=True):
    """The value that takes effect when `key` is absent."""

    library: str
    key: str
    value: DefaultValue
    since: str
    """The release from which it holds; `0` for as far back as was read."""
    source: str
    note: str = ""


def default(library: str, key: str, version: Version, libraries: Libraries = NEWEST) -> Default | None:
    """The default of `key` in `library` at `version`; None when the catalog lacks it or the key came later.

    Keys are `Class.field` (`TrainingArguments.optim`, `SFTConfig.max_length`, `LoraConfig.r`), the function's name
    before the dot for arguments (`from_pretrained.dtype`, with bitsandbytes `from_pretrained.dtype[bitsandbytes]`;
    `LoraConfig.target_modules[llama]` for PEFT's table by model type), and dotted paths for DeepSpeed JSON and
    accelerate YAML. `libraries` decides defaults that hang on another library (torch, for `optim`).
    A class has its own keys only: what TRL's classes inherit is found by `effective_default`.
    """
    if library == "deepspeed":
        return _deepspeed(key, version)
    found = None
    for _, name, since, value, requires, source, note in lines("defaults.tsv").starting_with(library, key):
        if not at_least(version, version_of(since)):
            break
        if satisfies(requires, libraries):
            found = Default(library, name, _plain(json.loads(value)), since, source, note)
    return found


def effective_default(vocabulary: str, key: str, libraries: Libraries = NEWEST) -> Default | None:
    """The default of `key` in the class `vocabulary`, its own or inherited (`SFTConfig.bf16`: TRL, transformers)."""
    from vramlint.catalog.keys import lineage

    for library, owner in lineage(vocabulary):
        found = default(library, f"{owner}.{key}", getattr(libraries, library), libraries)
        if found:
            return found
    return None


_TABLES = {"ia3": "IA3Config", "lntuning": "LNTuningConfig", "osf": "OSFConfig", "beft": "BEFTConfig"}
"""PEFT's methods with a table of targets of their own; the others' is a copy of LoRA's (peft 0.21 utils/constants.py),
but for a few architectures before llama."""


def lora_targets(model_type: str, version: Version = NEWEST.peft, method: str = "lora") -> DefaultValue:
    """PEFT's targets for a model type: module names, a regular expression, or None, where PEFT raises.

    Args:
        model_type: the architecture.
        version: of PEFT.
        method: the name of the method's config, in lower case.
    """
    owner = _TABLES.get(method, "LoraConfig")
    found = default("peft", f"{owner}.target_modules[{model_type}]", version)
    return found.value if found else None


def _deepspeed(key: str, version: Version) -> Default | None:
    row = find_deepspeed_key(key)
    if row is None or not at_least(version, version_of(row.since)):
        return None
    return Default("deepspeed", row.key, row.default_at(version), row.since, "deepspeed 0.19.8", row.memory)


def _plain(value: object) -> DefaultValue:
    match value:
        case list():
            return tuple(str(item) for item in value)
        case str() | int() | float() | None:
            return value
        case _:
            return json.dumps(value)

"""The keys of training frameworks' own configurations: in which releases each exists, and its default there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from vramlint.catalog.lines import DATA
from vramlint.catalog.versions import Version, at_least, version_of

CUSTOM = "custom-yaml"
"""The vocabulary of files with keys of somebody's own."""

FRAMEWORKS = (
    "axolotl",
    "fairseq",
    CUSTOM,
    "diffusers",
    "gpt-neox",
    "lightning",
    "litgpt",
    "llama-factory",
    "llama-factory-v1",
    "llm-foundry",
    "lmflow",
    "megatron",
    "megatron-bridge",
    "ms-swift",
    "ms-swift-megatron",
    "nemo",
    "open-instruct",
    "openrlhf",
    "peft-comparison",
    "qlora-pipe",
    "specforge",
    "timm",
    "torchtitan",
    "torchtune",
    "verl",
    "xtuner",
)
"""Names of the frameworks with a vocabulary of their own; `surfaces/frameworks` has a module for each."""

RECIPES = ("alignment-handbook", "open-r1", "trl")
"""Projects whose configurations are TrainingArguments beside keys of TRL and of their own."""

KINDS = (
    *FRAMEWORKS,
    *RECIPES,
    "accelerate-config",
    "deepspeed-json",
    "fsdp-json",
    "model-config",
    "peft",
    "training-args-json",
    "training-args-yaml",
)
"""Every vocabulary of a data file, as settings and `explain` call it."""

FOLDER = "frameworks"
"""One table per framework, `<name>.tsv`: key, since, until, renamed to, type, default (JSON), note."""

Plain = str | int | float | bool | None


class FrameworkKey(NamedTuple):
    """One key over some releases; a key whose default changed has several rows."""

    key: str
    """Dotted for nested tables; `name.*` where any key may stand in a table."""
    since: str
    """The first release for which the row holds; empty: as far back as was read."""
    until: str
    """The first release for which it does not; empty: it still does."""
    renamed_to: str
    type: str
    default: str
    """What applies when the key is absent, as JSON; empty: nothing that a file could say."""
    note: str = ""

    def holds_in(self, release: Version | None) -> bool:
        """Whether the row is of a release; None is the newest."""
        if release is None:
            return not self.until
        late = not self.since or at_least(release, version_of(self.since))
        return late and (not self.until or not at_least(release, version_of(self.until)))


@cache
def framework_keys(name: str) -> Mapping[str, tuple[FrameworkKey, ...]]:
    """The rows of a framework by key; empty for one without a table."""
    path = DATA / FOLDER / f"{name}.tsv"
    found: dict[str, tuple[FrameworkKey, ...]] = {}
    if not path.is_file():
        return MappingProxyType(found)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            row = FrameworkKey(*line.split("\t"))
            found[row.key] = (*found.get(row.key, ()), row)
    return MappingProxyType(found)


def framework_default(name: str, key: str, release: Version | None) -> Plain:
    """What a framework takes for an absent key at a release; None where it takes nothing, or nothing is known."""
    for row in framework_keys(name).get(key, ()):
        if row.holds_in(release) and row.default:
            value: Plain = json.loads(row.default)
            return value
    return None

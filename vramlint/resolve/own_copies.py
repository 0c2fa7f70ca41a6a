"""A project's own copy of a framework, which may be a fork of it with keys of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from vramlint.facts import Remark, Sheet
from vramlint.patterns import lazy
from vramlint.resolve.context import Context, find_module
from vramlint.surfaces.frameworks.hydra_defaults import module_of
from vramlint.values import Table

_KEYS = frozenset({"unknown-key", "removed-key"})
_PACKAGED = lazy(
    r"(?:^|/)(verl|llamafactory|axolotl|openrlhf|torchtune|torchtitan|swift)/(?:[\w-]+/)*(?:train_)?config[\w-]*/[^/]+$"
)
"""Configurations inside of a framework's package: what stands there, that copy of it takes."""
_DECLARING: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "megatron": ("megatron.training.arguments", "megatron.arguments"),
        "gpt-neox": ("megatron.neox_arguments.neox_args", "megatron.neox_arguments.deepspeed_args"),
    }
)
"""Frameworks that people train with out of a fork, and the modules in which a fork declares what it takes
(Megatron-LM since core 0.5 and before, Megatron-DeepSpeed; EleutherAI/gpt-neox)."""

_FORKED: Mapping[str, str] = MappingProxyType({"megatron": "deepspeed"})
"""Frameworks with a well-known fork that takes more, and a flag that only the fork has: Megatron-DeepSpeed's
`--deepspeed`, beside which stand flags that Megatron-LM has given up."""


def foreign(
    remarks: Iterable[Remark], sheet: Sheet, words: Table, defaults: Table, context: Context
) -> Iterator[Remark]:
    """The remarks without those on keys that the project's own copy of the program takes.

    Args:
        remarks: of the sheet's configuration.
        sheet: the run.
        words: its command line.
        defaults: the configuration that the copy starts from.
        context: to find the program among the files.
    """
    if words.entry(_FORKED.get(sheet.kind, "")) is not None:
        remarks = [remark for remark in remarks if remark.kind not in _KEYS]
    module = module_of(words)
    document = find_module(sheet.path, context, module) if module else None
    declaring = [found for name in _DECLARING.get(sheet.kind, ()) if (found := find_module(sheet.path, context, name))]
    for remark in remarks:
        if remark.kind in _KEYS:
            if _PACKAGED.search(remark.place.path.replace("\\", "/")):
                continue
            if defaults.entry(*remark.subject.split(".")) is not None:
                continue
            if document is not None and _declares(document.text, remark.subject):
                continue
            if any(_declares(copy.text, remark.subject) for copy in declaring):
                continue
        yield remark


def _declares(text: str, key: str) -> bool:
    """Whether a program's text has an option, `add_argument("--verbose_training", …)`, or a field of that name."""
    spelled = re.escape(key).replace("_", "[-_]")
    return re.search(rf"""["']--{spelled}["']|^    {re.escape(key)}\s*:\s""", text, re.MULTILINE) is not None

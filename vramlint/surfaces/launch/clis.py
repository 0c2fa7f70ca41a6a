"""Command-line tools that train by themselves: which subcommands do, and where their configuration is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from vramlint.facts import Link
from vramlint.patterns import lazy
from vramlint.surfaces.launch.words import Line, Word, after

_FILE = lazy(r".+\.(?:ya?ml|json|toml)$", re.IGNORECASE)


class Cli(Struct, frozen=True):
    """One tool."""

    vocabulary: str
    """Kind of the link to its configuration."""
    commands: frozenset[str]
    """Subcommands that train."""
    options: tuple[str, ...] = ("config",)
    """Options that name the configuration, without dashes."""
    positional: bool = False
    """The configuration may stand without an option."""
    first: bool = False
    """Only in front of all options: behind them it would be the value of one."""
    named: bool = False
    """It may be the name of one that comes with the tool, or any kind of file."""
    every_gpu: bool = False
    """It starts a process for every visible GPU by itself."""
    single: bool = True
    """It runs in one process unless the environment says otherwise."""


CLIS: Mapping[str, Cli] = MappingProxyType(
    {
        "trl": Cli(
            "training-args",
            frozenset(
                [
                    "sft",
                    "dpo",
                    "orpo",
                    "kto",
                    "grpo",
                    "reward",
                    "rloo",
                    "cpo",
                    "bco",
                    "online-dpo",
                    "online_dpo",
                    "nash-md",
                    "xpo",
                    "gkd",
                    "ppo",
                    "prm",
                ]
            ),
            every_gpu=True,
        ),
        "axolotl": Cli("axolotl", frozenset({"train"}), positional=True, every_gpu=True),
        "llamafactory-cli": Cli(
            "llama-factory", frozenset({"train", "sft", "dpo", "rm"}), positional=True, first=True, every_gpu=True
        ),
        "lmf": Cli(
            "llama-factory", frozenset({"train", "sft", "dpo", "rm"}), positional=True, first=True, every_gpu=True
        ),
        "swift": Cli("ms-swift", frozenset({"sft", "pt", "rlhf"}), positional=True, first=True),
        "megatron": Cli("ms-swift-megatron", frozenset({"sft", "pt", "rlhf"}), positional=True, first=True),
        "tune": Cli("torchtune", frozenset({"run"})),
        "litgpt": Cli(
            "litgpt",
            frozenset(
                ["finetune", "finetune_full", "finetune_lora", "finetune_adapter", "finetune_adapter_v2", "pretrain"]
            ),
        ),
        "llmfoundry": Cli("llm-foundry", frozenset({"train"}), positional=True, every_gpu=True),
        "xtuner": Cli("xtuner", frozenset({"train"}), positional=True, named=True),
        "oumi": Cli("oumi", frozenset({"train"}), ("config", "c")),
        "nemo": Cli("nemo", frozenset({"llm"}), ("yaml", "y", "config")),
        "autotrain": Cli("autotrain", frozenset({"llm"}), ("config",)),
        "specforge": Cli("specforge", frozenset({"train"})),
        "ludwig": Cli("ludwig", frozenset({"train", "experiment"}), ("config", "c")),
    }
)
"""Tools by name. Their other subcommands (chat, export, infer, download, …) do not train."""

_PARTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (lazy(r"(?:^|\.)trl\.(?:experimental\.)?scripts\.(\w+)$"), "trl"),
    (lazy(r"(?:^|\.)axolotl\.cli\.(train)$"), "axolotl"),
    (lazy(r"(?:^|\.)swift\.cli\.(sft|pt|rlhf)$"), "swift"),
    (lazy(r"(?:^|\.)swift\.cli\._megatron\.(sft|pt|rlhf)$"), "megatron"),
    (lazy(r"(?:^|\.)litgpt\.((?:finetune|pretrain)\w*)$"), "litgpt"),
    (lazy(r"(?:^|\.)examples\.scripts\.(sft|dpo|orpo|kto|grpo|reward|reward_modeling|cpo|bco|rloo)$"), "trl"),
)
"""Modules of these tools that scripts start directly."""

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "axolotl": "axolotl",
        "axolotl.cli.main": "axolotl",
        "llamafactory.cli": "llamafactory-cli",
        "llamafactory": "llamafactory-cli",
        "trl.cli": "trl",
        "trl": "trl",
        "torchtune._cli.tune": "tune",
        "litgpt": "litgpt",
        "oumi": "oumi",
        "oumi.core.cli": "oumi",
    }
)
"""Modules that are a tool as a whole."""


def tool_of(program: str) -> tuple[str, str] | None:
    """The tool and subcommand behind a program: `trl.scripts.sft`, `swift/cli/sft.py`, `axolotl train`."""
    words = program.split()
    if len(words) > 1:
        return (words[0], words[1]) if words[0] in CLIS else None
    dotted = program.replace("\\", "/").removesuffix(".py").replace("/", ".")
    for pattern, tool in _PARTS:
        match = pattern.search(dotted)
        if match and match[1] in CLIS[tool].commands | {"reward_modeling"}:
            return tool, match[1].removesuffix("_modeling")
    return None


def config_links(tool: str, arguments: Line) -> tuple[Link, ...]:
    """The configurations that a tool is given."""
    cli = CLIS[tool]
    found: list[Link] = []
    takes = ""
    for word in arguments:
        text = word.text
        if text is None:
            takes = ""
            continue
        if takes:
            found += _link(cli, word, named=True)
            takes = ""
            continue
        head, equals, _ = text.partition("=")
        if head.startswith("-") and head.lstrip("-") in cli.options:
            if equals:
                found += _link(cli, after(word, len(head) + 1), named=True)
            else:
                takes = head
        elif text == "--" or found:
            break
        elif cli.positional and not text.startswith("-") and not equals and (word is arguments[0] or not cli.first):
            found += _link(cli, word, named=False)
    return tuple(found[:1])


def _link(cli: Cli, word: Word, named: bool) -> list[Link]:
    text = word.text or ""
    if not named and not _FILE.match(text) and not (cli.named and text):
        return []
    return [Link(cli.vocabulary, text, word.written)] if text else []

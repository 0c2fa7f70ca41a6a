"""ms-swift: its argument classes. Their values are parsed; models, which they look for on a hub, are not asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from swift.arguments import PretrainArguments, RLHFArguments, SftArguments
from transformers import HfArgumentParser

from bench.asking.commands import commands, flag

CLASSES = {"sft": SftArguments, "pt": PretrainArguments, "rlhf": RLHFArguments}


def _parsed(task: str, words: list[str]) -> list[str]:
    _, rest = HfArgumentParser([CLASSES[task]], allow_abbrev=False).parse_known_args(words)
    return [flag(word) for word in rest if word.startswith("--")]


def flags(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """The commands of a shell script."""
    found = [(words[1], words[2:]) for words in commands(text) if words[0] == "swift" and words[1] in CLASSES]
    return len(found), [name for task, words in found for name in _parsed(task, words)]


def arguments(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A YAML or JSON file that `swift sft` takes for its flags."""
    table = yaml.safe_load(text)
    return len(table), _parsed("rlhf" if "rlhf_type" in table else "sft", list(_words(table)))


def _words(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"--{key}"
        if isinstance(value, list):
            yield from map(str, value)
        else:
            yield value if isinstance(value, str) else json.dumps(value)


KINDS = {"arguments": arguments, "flags": flags}

"""The commands of shell scripts. Standard library only: it runs in the frameworks' environments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command with a flag, its variables put in where the script gives them one plain value."""
    joined = re.sub(r"\\\r?\n", " ", text)
    values = dict(re.findall(r"^\s*(?:export\s+)?(\w+)=[\"']?([^\s\"'$`(]*)[\"']?\s*$", joined, re.MULTILINE))
    for line in joined.splitlines():
        if not re.search(r"\s--?\w", line) or line.lstrip().startswith("#"):
            continue
        calculated = re.sub(r"\$\([^()]*\)|`[^`]*`", "1", line)
        filled = re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], "1"), calculated)
        try:
            words = shlex.split(filled, comments=True)
        except ValueError:
            continue
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
        if words:
            yield words


def without(words: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The words but for some flags and the words behind them."""
    behind = False
    for word in words:
        name, equals, _ = word.removeprefix("--").partition("=")
        named = word.startswith("--") and name in names
        if not named and not (behind and not word.startswith("--")):
            yield word
        behind = named and not equals


def flag(word: str) -> str:
    """The name of a flag, as a Python name."""
    return word.removeprefix("--").partition("=")[0].replace("-", "_")

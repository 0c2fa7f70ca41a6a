"""LLaMA-Factory's second generation: the dataclasses that its parser is given (v1/config/arg_parser.py, get_args)."""

from __future__ import annotations

from collections.abc import Mapping

from tools.surfaces.dataclass_keys import fields
from tools.surfaces.rows import rows_of, text_of
from tools.surfaces.source import Key, Keys, Source, table_file
from tools.surfaces.states import States
from tools.surfaces.syntax import classes
from tools.surfaces.trees import Tree

_NAME = "llama-factory-v1"
_FILES = ("llamafactory/v1/config/*.py", "llamafactory/v1/utils/types.py")
_CLASSES = ("ModelArguments", "DataArguments", "TrainingArguments", "SampleArguments")
_PLUGIN = "PluginConfig"
"""A table whose keys are the plugin's (config/arg_utils.py)."""
_RELEASES = {"0.9.4": "v0.9.4", "0.9.5": "v0.9.5", "0.9.6": "HEAD"}
"""Those that have it, the state after the last one under the next number."""


def read(tree: Tree) -> Mapping[str, Keys]:
    """The keys at one state."""
    found = classes(tree, _FILES)
    keys = {_title(name, key): key for name, key in fields(found, _CLASSES, found).items()}
    return {_NAME: keys}


def make(states: States) -> Mapping[str, str]:
    """The table `frameworks/llama-factory-v1.tsv`."""
    heading = (
        "Keys of LLaMA-Factory's second generation: key, since, until, renamed to, type, default (JSON), note.",
        "Read: src/llamafactory/v1/config/*.py of v0.9.4, v0.9.5 and of the state after it, called 0.9.6.",
    )
    releases = [(number, read(states.revision(revision))[_NAME]) for number, revision in _RELEASES.items()]
    return {table_file(_NAME): text_of(heading, rows_of(releases, types=False))}


def _title(name: str, key: Key) -> str:
    return f"{name}.*" if key.type.startswith(_PLUGIN) else name


SOURCE = Source("llamafactory", ("llamafactory",), "hiyouga/LLaMA-Factory", read, make)

"""verl: the overrides of its command lines, composed by Hydra with its own configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from bench.asking.commands import commands

_PLACES = getattr(find_spec("verl"), "submodule_search_locations", None) or ()
FOLDER = Path(next(iter(_PLACES), ""), "trainer", "config")
"""Of its own configurations; the package itself is not imported, as it wants all that it trains with."""


def flags(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """The commands of a shell script that start PPO or GRPO. A key that the configuration lacks is refused."""
    asked = 0
    for words in commands(text):
        if "verl.trainer.main_ppo" not in words:
            continue
        own = [word for word in words if re.match(r"[+~]{0,2}\w[\w.]*=", word)]
        name = next((word.partition("=")[2] for word in words if word.startswith("--config-name")), "ppo_trainer")
        with initialize_config_dir(str(FOLDER), version_base=None):
            compose(name.removesuffix(".yaml"), overrides=own)
        asked += 1
    return asked, []


KINDS = {"flags": flags}

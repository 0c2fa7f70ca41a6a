"""torchtitan: its configuration manager."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from torchtitan.config import ConfigManager


def arguments(question: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
    """A TOML file of a training. A key that no section has is refused."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        ConfigManager().parse_args([f"--job.config_file={file.name}"])
    return 1, []


KINDS = {"arguments": arguments}

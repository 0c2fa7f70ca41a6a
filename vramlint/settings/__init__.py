"""Settings: `vramlint.toml` or `[tool.vramlint]` in pyproject.toml."""

from vramlint.settings.keys import KEYS, Key, Override
from vramlint.settings.loading import FILE_NAMES, find, load, of
from vramlint.settings.model import Settings, for_path

__all__ = ["FILE_NAMES", "KEYS", "Key", "Override", "Settings", "find", "for_path", "load", "of"]

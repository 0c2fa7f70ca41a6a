"""The keys of a DeepSpeed JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from msgspec import Struct

from vramlint.catalog.lines import lines
from vramlint.catalog.versions import Version, at_least, version_of

_FILE = "deepspeed_keys.tsv"


class DeepSpeedKey(Struct, frozen=True):
    """One key, dotted from the top of the file."""

    key: str
    type: str
    """As the reader declares it: bool, int, `int | "auto"`, `enum a|b`, object, …"""
    default_text: str
    since: str
    status: str
    """current, deprecated, `removed in <version>; …`, rejected, …"""
    changes: str
    """Earlier defaults in words: `10 before 0.15.2`."""
    memory: str
    """What the key does to memory; `none` where it does nothing."""

    @property
    def removed_in(self) -> str:
        """The release that dropped the key, empty while it is accepted."""
        match = re.match(_REMOVED, self.status)
        return match[1] if match else ""

    def default_at(self, version: Version) -> str | int | float | bool | None:
        """The default in release `version`; None for none."""
        match = re.fullmatch(_BEFORE, self.changes)
        if match and not at_least(version, version_of(match["version"])):
            return _value(match["value"])
        return _value(self.default_text)


_REMOVED = r"removed in ([\d.]+)"
_BEFORE = r"(?P<value>\S+) before (?P<version>[\d.]+)"
_REMARK = r"\s*\([^)]*\)$|\s+elements$"


def find_deepspeed_key(key: str) -> DeepSpeedKey | None:
    """The line of a dotted key such as `zero_optimization.stage`."""
    return next((DeepSpeedKey(*columns) for columns in lines(_FILE).starting_with(key) if columns[0] == key), None)


def all_deepspeed_keys() -> Iterator[DeepSpeedKey]:
    """Every key, sorted."""
    return (DeepSpeedKey(*columns) for columns in lines(_FILE))


def _value(text: str) -> str | int | float | bool | None:
    """A default as written in the table; element counts such as `5e8 elements` are integers."""
    text = re.sub(_REMARK, "", text)
    if text in ("", "-", "none") or text.startswith("required"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, float) and value.is_integer() and "e" in text:
        return int(value)
    return value if isinstance(value, str | int | float) or value is None else text

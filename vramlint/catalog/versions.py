"""Release numbers as tuples of integers."""

from __future__ import annotations

import re
from functools import lru_cache

from vramlint.job import Libraries

NEWEST = Libraries()
"""The newest release of each library that the catalog knows."""

Version = tuple[int, ...]


@lru_cache(maxsize=4096)
def version_of(text: str) -> Version:
    """`4.57.6` as (4, 57, 6); what follows the numbers (`rc1`, `+cpu`, `.dev0`) is ignored."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()


def at_least(version: Version, bound: Version) -> bool:
    """Whether `version` is `bound` or later; absent parts count as zero."""
    length = max(len(version), len(bound))
    return _padded(version, length) >= _padded(bound, length)


def _padded(version: Version, length: int) -> Version:
    return version + (0,) * (length - len(version))


_REQUIREMENT = r"(?P<library>\w+)(?P<sense>>=|<)(?P<version>[\d.]+)"


def satisfies(requirement: str, libraries: Libraries) -> bool:
    """Whether `libraries` fulfil a condition such as `torch>=2.8`; the empty condition always holds.

    Raises:
        ValueError: the condition is not of that form.
    """
    if not requirement:
        return True
    match = re.fullmatch(_REQUIREMENT, requirement)
    if not match:
        raise ValueError(f"not a requirement: {requirement}")
    enough = at_least(getattr(libraries, match["library"]), version_of(match["version"]))
    return enough if match["sense"] == ">=" else not enough

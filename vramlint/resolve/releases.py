"""Known releases and what a version specifier allows of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType

from vramlint.patterns import lazy

Release = tuple[int, ...]

_COMPARISONS: Mapping[str, Callable[[Release, Release], bool]] = MappingProxyType(
    {
        "<=": lambda release, bound: release <= bound,
        ">=": lambda release, bound: release >= bound,
        "<": lambda release, bound: release < bound,
        ">": lambda release, bound: release > bound,
        "!=": lambda release, bound: release != bound,
    }
)
_CLAUSE = lazy(r"(===|==|~=|!=|<=|>=|<|>|\^|~|=)?\s*v?(\d+(?:\.\d+)*)((?:\.\*)?)[^,|;\s]*")


@cache
def known_releases() -> Mapping[str, tuple[Release, ...]]:
    """The known releases of every library of interest, oldest first, each as (major, minor, patch)."""
    text = Path(__file__).with_name("releases.txt").read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return MappingProxyType({name: tuple(map(release_of, releases)) for name, *releases in lines})


def newest(library: str, below: Release | None = None) -> Release:
    """The newest known release, `below` a bound where there is one."""
    return newest_allowed(library, "", below) or known_releases()[library][-1]


@lru_cache(maxsize=4096)
def release_of(text: str) -> Release:
    """`4.46` as (4, 46, 0); what follows the number (`rc1`, `+cu121`, `.dev0`) is dropped."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    parts = tuple(int(part) for part in match[1].split(".")[:3]) if match else ()
    return (*parts, *(0,) * (3 - len(parts)))


def words(release: Release) -> str:
    """`(4, 46, 3)` as `4.46.3`."""
    return ".".join(str(part) for part in release)


def pinned(specifier: str) -> Release | None:
    """The one release that a specifier allows: `==4.46.3`, `=4.46.3` (conda) or a bare `4.46.3` (a lock file)."""
    clauses = _CLAUSE.findall(specifier)
    exact = [number for operator, number, star in clauses if operator in ("==", "===", "=", "") and not star]
    return release_of(exact[0]) if exact else None


@lru_cache(maxsize=1024)
def newest_allowed(library: str, specifier: str, below: Release | None = None) -> Release | None:
    """The newest known release that a specifier allows, `below` a bound; None when none that is known does.

    Understands PEP 440 clauses, Poetry's `^` and `~`, npm-like bare stars (`4.46.*`) and conda's `=`.
    """
    clauses = _CLAUSE.findall(specifier.partition("||")[0])
    for release in reversed(known_releases()[library]):
        if (below is None or release < below) and all(_allows(release, *clause) for clause in clauses):
            return release
    return None


def _allows(release: Release, operator: str, number: str, star: str) -> bool:
    bound = release_of(number)
    given = tuple(int(part) for part in number.split("."))
    if star or operator == "=":
        return (release[: len(given)] == given[:3]) != (operator == "!=")
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](release, bound)
    if operator in ("~=", "~"):
        kept = len(given) - 1 if operator == "~=" or len(given) == 3 else len(given)
        return release >= bound and release[: max(kept, 1)] == given[: max(kept, 1)]
    if operator == "^":
        kept = next((index for index, part in enumerate(given) if part), len(given) - 1) + 1
        return release >= bound and release[:kept] == given[:kept]
    return release == bound

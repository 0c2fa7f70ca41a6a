"""Released packages: wheels from PyPI by pip, never built, installed or imported."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

CACHE = Path(__file__).parents[2] / "build" / "packages"
"""Where wheels are kept."""
_PLATFORM = (
    *("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64", "--platform", "manylinux1_x86_64"),
    *("--implementation", "cp", "--python-version", "3.11"),
)
"""Whose wheels are taken where a release has several; what is read is the same in all."""
NEWEST = "newest"


def wheel(distribution: str, release: str, cache: Path = CACHE) -> Path | None:
    """The wheel of a release, fetched unless it is in the cache; None where there is none.

    Wheels only: pip runs the set-up code of an sdist to learn its name.
    """
    wanted = distribution if release == NEWEST else f"{distribution}=={release}"
    folder = cache / distribution / release
    held = sorted(folder.glob("*.whl")) if release != NEWEST else []
    if held:
        return held[0]
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as fresh:
        ran = subprocess.run(
            [*command, "--only-binary", ":all:", *_PLATFORM, "--dest", fresh, wanted], capture_output=True, check=False
        )
        found = next(Path(fresh).glob("*.whl"), None)
        if ran.returncode or found is None:
            return None
        place = cache / distribution / version_in(found)
        place.mkdir(parents=True, exist_ok=True)
        return found.replace(place / found.name)


def version_in(path: Path) -> str:
    """The release that the name of a wheel or sdist says, `axolotl-0.19.0-py3-none-any.whl`."""
    name = path.name.removesuffix(".tar.gz").removesuffix(".whl").removesuffix(".zip")
    return name.split("-")[1] if "-" in name else ""


def installed_release(distribution: str) -> str:
    """The release that is installed here; empty where none is."""
    try:
        return metadata.version(distribution) if distribution else ""
    except metadata.PackageNotFoundError:
        return ""

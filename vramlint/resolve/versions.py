"""Which library versions a run uses: those it installs, or the nearest file requires, else the newest known."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from msgspec import Struct

from vramlint.patterns import lazy
from vramlint.resolve.context import Context, ancestors
from vramlint.resolve.releases import newest, newest_allowed, pinned, release_of
from vramlint.resolve.run import Version
from vramlint.text import Document

FRAMEWORKS = (
    "axolotl",
    "llamafactory",
    "ms_swift",
    "torchtune",
    "torchtitan",
    "litgpt",
    "lightning",
    "megatron_core",
    "megatron_bridge",
    "nemo_toolkit",
    "llm_foundry",
    "mosaicml",
    "xtuner",
    "verl",
    "openrlhf",
    "specforge",
    "lmflow",
    "unsloth",
    "diffusers",
    "sentence_transformers",
    "setfit",
    "timm",
    "fairseq",
)
"""Distributions of frameworks with configurations of their own; their release decides keys and defaults."""
LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "deepspeed", "liger_kernel")

NEWEST = "newest known"

_FILES = (
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "requirements.txt",
    "requirements*.txt",
    "pyproject.toml",
    "environment.yml",
    "environment*.yaml",
    "environment*.yml",
    "conda*.yml",
    "Pipfile",
    "setup.cfg",
    "setup.py",
)
"""Files that say versions, the surest first: what is locked, then what is required."""


class Requirement(Struct, frozen=True):
    """What one file says of one library; an empty specifier when it says no version."""

    library: str
    specifier: str
    path: str
    line: int


class Bound(Struct, frozen=True):
    """The run uses a key that a library dropped."""

    release: tuple[int, ...]
    """The first release without the key."""
    key: str


NO_BOUNDS: Mapping[str, Bound] = MappingProxyType({})


def find_versions(
    path: str,
    context: Context,
    cache: dict[str, tuple[Requirement, ...]],
    bounds: Mapping[str, Bound] = NO_BOUNDS,
) -> tuple[Version, ...]:
    """The version of every library, for a run in file `path`.

    What a notebook installs itself counts first, then per library the nearest folder that names it. In one folder an
    exact pin wins over a range, and a file earlier in the list over a later one. A range means the newest known
    release that it allows.

    Args:
        path: the file of the run.
        context: file access and versions that the settings fix.
        cache: requirements by folder, shared between the runs of one call.
        bounds: per library, a release that a run without an exact pin must be older than to accept its own keys.
    """
    found: dict[str, Version] = {
        library: Version(library, release_of(version), "settings")
        for library, version in context.versions.items()
        if library in LIBRARIES
    }
    for place in (path, *ancestors(path, context.root)):
        if place not in cache:
            cache[place] = tuple(_installed(path, context) if place == path else _requirements(place, context))
        for library in LIBRARIES:
            named = [item for item in cache[place] if item.library == library]
            if library not in found and named:
                found[library] = _version(library, named, bounds.get(library))
    return tuple(found.get(library) or _newest(library, bounds.get(library)) for library in LIBRARIES)


def framework_version(path: str, context: Context, library: str) -> tuple[int, ...] | None:
    """The release of a framework that the settings fix or the nearest file pins; None: nobody says.

    Args:
        path: the file of the run.
        context: file access and versions that the settings fix.
        library: its distribution, with underscores; one of `FRAMEWORKS`.
    """
    fixed = context.versions.get(library)
    if fixed:
        return release_of(fixed)
    for folder in ancestors(path, context.root):
        pins = [pinned(item.specifier) for item in _requirements(folder, context) if item.library == library]
        if found := next(filter(None, pins), None):
            return found
    return None


def _version(library: str, named: list[Requirement], bound: Bound | None) -> Version:
    for item in named:
        release = pinned(item.specifier)
        if release:
            return Version(library, release, f"{item.path}:{item.line}")
    for item in sorted(named, key=lambda item: not item.specifier):
        where = f"{item.path}:{item.line}"
        if not item.specifier:
            plain = _newest(library, bound)
            return Version(library, plain.version, f"{plain.source}, {where} does not say")
        within = newest_allowed(library, item.specifier, bound.release) if bound else None
        if within and bound:
            return Version(library, within, f"newest known with {bound.key} allowed by {where}")
        allowed = newest_allowed(library, item.specifier)
        if allowed:
            return Version(library, allowed, f"newest known allowed by {where}")
    return _newest(library, bound)


def _newest(library: str, bound: Bound | None) -> Version:
    if bound is None:
        return Version(library, newest(library), NEWEST)
    return Version(library, newest(library, bound.release), f"{NEWEST} with {bound.key}")


def _installed(path: str, context: Context) -> Iterator[Requirement]:
    """What the cells of a notebook install, the last first: it is what stays."""
    document = context.load(path) if path.endswith(".ipynb") else None
    if document is None:
        return
    for command in reversed(list(_PIP.finditer(document.text))):
        for match in re.finditer(_ARGUMENT, command[0]):
            line = document.position(command.start() + match.start())[0]
            cell = document.cell(line)
            where = f"{path}:cell {cell.number}" if cell else path
            local = line - cell.first_line + 1 if cell else line
            yield Requirement(match[1].replace("-", "_"), match[2].strip(), where, local)


def _requirements(folder: str, context: Context) -> Iterator[Requirement]:
    for name in _surest_first(tuple(context.names(folder))):
        document = context.load(name if folder == "." else f"{folder.rstrip('/')}/{name}")
        if document:
            yield from _required(name, document)


@lru_cache(maxsize=256)
def _surest_first(names: tuple[str, ...]) -> tuple[str, ...]:
    """Of the names in a folder those of files that say versions."""
    return tuple(dict.fromkeys(name for pattern in _FILES for name in fnmatch.filter(sorted(names), pattern)))


_ANY = "|".join(library.replace("_", "[-_]") for library in (*LIBRARIES, *FRAMEWORKS))
"""Their names as files write them: an underscore may be a hyphen."""
_LOCKED = rf'(?m)^name = "({_ANY})"\s*\nversion = "([^"]+)"'
_PIPFILE_LOCKED = rf'"({_ANY})":\s*\{{[^{{}}]*?"version":\s*"==([^"]+)"'
_SPECIFIER = r"((?:\s*,?\s*(?:===|==|~=|!=|<=|>=|<|>|=)\s*v?[\w.*+!]+)*)"
_LINE = rf"(?m)^\s*(?:-\s+)?[\"']?({_ANY})(?:\[[^\]]*\])?{_SPECIFIER}\s*[\"']?\s*,?\s*(?:[;#@].*)?$"
_QUOTED = rf"[\"']({_ANY})(?:\[[^\]]*\])?{_SPECIFIER}\s*(?:;[^\"']*)?[\"']"
_PIP = lazy(r"(?m)^[ \t]*[!%][ \t]*(?:\S*python[\d.]* -m |uv )?pip3? install\b(?:[^\\\n]|\\\r?\n|\\.)*")
_ARGUMENT = rf"(?<=[\s\"'])({_ANY})(?:\[[^\]]*\])?{_SPECIFIER}(?=[\s\"';]|\Z)"
_TABLE_KEY = rf"(?m)^({_ANY})\s*=\s*(?:\{{[^}}\n]*?version\s*=\s*)?[\"']([^\"'\n]+)[\"']"


@lru_cache(maxsize=256)  # the jobs of one project have the same files above them
def _required(name: str, document: Document) -> tuple[Requirement, ...]:
    return tuple(_read(name, document)) if re.search(_ANY, document.text) else ()


def _read(name: str, document: Document) -> Iterator[Requirement]:
    patterns: tuple[str, ...]
    if name == "Pipfile.lock":
        patterns = (_PIPFILE_LOCKED,)
    elif name.endswith(".lock"):
        patterns = (_LOCKED,)
    elif name.endswith(".toml") or name == "Pipfile":
        patterns = (_QUOTED, _TABLE_KEY)
    elif name.endswith(".py"):
        patterns = (_QUOTED,)
    else:
        patterns = (_LINE,)
    for pattern in patterns:
        for match in re.finditer(pattern, document.text):
            line = document.position(match.start(1))[0]
            if pattern is _QUOTED and document.line(line).startswith("name"):
                continue  # the project that is this library
            specifier = match[2].strip()
            if pattern is _TABLE_KEY and not re.search(r"\d", specifier):
                specifier = ""
            yield Requirement(match[1].replace("-", "_"), specifier, document.path, line)

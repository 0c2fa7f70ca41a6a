"""What a project declares, and which of it holds for one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from vramlint.findings import Severity
from vramlint.settings.keys import Override
from vramlint.text import Place


class Settings(Struct, frozen=True):
    """What a project declares. Tuples of rules hold codes or names as written."""

    root: str = "."
    """The folder of the settings file; patterns and rule folders are relative to it."""
    path: str | None = None
    """The settings file, None when there is none."""
    gpu: str | None = None
    gpus_per_node: int | None = None
    nodes: int | None = None
    ram: str | None = None
    """Host memory of one machine, `512GiB`."""
    nvme: str | None = None
    kind: str | None = None
    """The vocabulary of files, where it is not to be told by their keys."""
    model: str | None = None
    micro_batch_size: int | None = None
    sequence_length: int | None = None
    select: tuple[str, ...] = ()
    """Rules to run; empty means the default ones."""
    ignore: tuple[str, ...] = ()
    fixable: tuple[str, ...] = ()
    """Rules whose findings are fixed; empty means all."""
    unfixable: tuple[str, ...] = ()
    severity: Mapping[str, Severity] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    """Patterns in .gitignore's language of files that are not linted."""
    rules: tuple[str, ...] = ()
    """Folders with rules of the project's own."""
    fail_on: Severity = Severity.WARNING
    """The lowest severity that makes the exit code 1."""
    strict: bool = False
    """A job that cannot be judged makes the exit code 1."""
    fix: bool = False
    """Make the fixes that are safe."""
    unsafe_fixes: bool = False
    """Count unsafe fixes as fixes, and make them where fixes are made."""
    headroom: float = 0.95
    """From this fraction of the usable memory on, a run that fits is called close to the limit."""
    baseline: str | None = None
    """The file of known findings, relative to `root`."""
    max_increase: str | None = None
    """By how much a change may raise a peak before `diff` fails: `1GiB`, `5%`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library versions that count instead of those of requirements files."""
    overrides: tuple[Override, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    """Where each field's value is written."""

    def merged(self, **values: object) -> Settings:
        """These settings with `values` in place of the fields they name; None leaves a field as it is.

        Raises:
            TypeError: there is no such field.
        """
        given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        places = {name: place for name, place in self.places.items() if name not in given}
        return replace(self, **{"places": places, **given}) if given else self


def for_path(settings: Settings, path: str) -> Settings:
    """The settings for one file: every override that matches `path` applied, later ones last.

    `path` is absolute or relative to `settings.root`; nothing outside that folder matches. Rules to ignore or
    not to fix and severities add up, other fields are replaced.
    """
    if not settings.overrides:
        return settings
    from pathspec import GitIgnoreSpec

    relative = _inside(path, settings.root)
    if relative is None:
        return settings
    result = settings
    for override in settings.overrides:
        if GitIgnoreSpec.from_lines(override.files).match_file(relative):
            result = _overridden(result, override.changes)
    return result


def _inside(path: str, root: str) -> str | None:
    """The way from `root` to `path`, None when it leads out."""
    try:
        way = os.path.relpath(path, root) if Path(path).is_absolute() else os.path.normpath(path)
    except ValueError:  # another drive
        return None
    way = way.replace(os.sep, "/")
    return None if way.startswith("../") else way


def _overridden(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    merged = dict(changes)
    for name in ("ignore", "unfixable"):
        if name in merged:
            merged[name] = tuple(dict.fromkeys((*getattr(settings, name), *merged[name])))
    for name in ("severity", "places"):
        if name in merged:
            merged[name] = {**getattr(settings, name), **merged[name]}
    return replace(settings, **merged)

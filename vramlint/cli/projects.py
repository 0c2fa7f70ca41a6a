"""The settings and rules that hold for a path: the nearest settings file, and what the command line says."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from vramlint.cli.errors import UsageError
from vramlint.engine.loader import load_rules
from vramlint.engine.rule_reader import RuleError
from vramlint.engine.selection import RuleSet, UnknownRuleError
from vramlint.settings import Settings, find, for_path
from vramlint.settings import load as load_settings


class Projects:
    """Finds and reads every settings file once."""

    def __init__(self, options: Namespace) -> None:
        self._isolated: bool = options.isolated
        self._select: tuple[str, ...] = tuple(getattr(options, "select", None) or ())
        self._ignore: tuple[str, ...] = tuple(getattr(options, "ignore", None) or ())
        self._by_folder: dict[str, Settings] = {}
        self._by_file: dict[str, Settings] = {}
        self._rules: dict[tuple[str, ...], RuleSet] = {}
        self._given = self._read(options.config) if options.config else None

    def settings_of(self, path: str) -> Settings:
        """The settings for one file or folder, overrides applied; the command line's choice of rules on top."""
        absolute = os.path.abspath(path)
        settings = self._project(absolute)
        if settings.overrides:
            relative = os.path.relpath(absolute, settings.root).replace(os.sep, "/")
            settings = for_path(settings, relative)
        return settings.merged(
            select=self._select or None,
            ignore=(*settings.ignore, *self._ignore) if self._ignore else None,
        )

    def grouped(self, paths: Iterable[str]) -> list[tuple[Settings, list[str]]]:
        """Paths by the settings file that holds for them."""
        groups: dict[int, tuple[Settings, list[str]]] = {}
        for path in paths:
            settings = self._project(os.path.abspath(path))
            groups.setdefault(id(settings), (settings, []))[1].append(path)
        return list(groups.values())

    def rules_of(self, settings: Settings) -> RuleSet:
        """The built-in rules and those of the project.

        Raises:
            UsageError: a rule of the project's own that can't be read or is not of the form.
        """
        folders = tuple(os.path.join(settings.root, folder) for folder in settings.rules)
        if folders not in self._rules:
            try:
                self._rules[folders] = load_rules(folders)
            except RuleError as error:
                raise UsageError(str(error)) from None
            except OSError as error:
                raise UsageError(f"cannot read rules: {error.filename}: {error.strerror}") from None
        return self._rules[folders]

    def _project(self, absolute: str) -> Settings:
        if self._given:
            return self._given
        folder = absolute if os.path.isdir(absolute) else os.path.dirname(absolute)
        if folder not in self._by_folder:
            file = None if self._isolated else find(Path(folder))
            self._by_folder[folder] = self._read(str(file)) if file else self._by_file.setdefault("", Settings())
        return self._by_folder[folder]

    def _read(self, path: str) -> Settings:
        if path not in self._by_file:
            settings = load_settings(path)
            if not isinstance(settings, Settings):
                first, *more = settings
                rest = f" (and {len(more)} more)" if more else ""
                raise UsageError(f"{first.place.path}:{first.place.span.line}: {first.message}{rest}")
            self._check_rules(settings)
            self._by_file[path] = settings
        return self._by_file[path]

    def _check_rules(self, settings: Settings) -> None:
        """Every rule that the file names exists, in the overrides too.

        Raises:
            UsageError: one doesn't.
        """
        own = {name: getattr(settings, name) for name in ("select", "ignore", "fixable", "unfixable", "severity")}
        for values in ({**own, "places": settings.places}, *(override.changes for override in settings.overrides)):
            for key in own:
                for word in values.get(key, ()):
                    try:
                        self.rules_of(settings).matching(word)
                    except UnknownRuleError as error:
                        place = values["places"][key]
                        raise UsageError(f"{place.path}:{place.span.line}: `{key}`: {error}") from None
